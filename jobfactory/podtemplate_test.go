package jobfactory_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// A patch must not change what the scaler, the sidecar and the reaper rely on.
func TestAPatchThatBreaksThePodIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ patch, want string }{
		"sidecar deleted":      {`{spec: {initContainers: [{name: sidecar, $patch: delete}]}}`, "spec.initContainers[sidecar]: missing"},
		"all replaced":         {`{spec: {$patch: replace, containers: [{name: runner}]}}`, "spec.initContainers[sidecar]: missing"},
		"runner's command":     {`{spec: {containers: [{name: runner, command: [/bin/sh]}]}}`, "spec.containers[runner].command: "},
		"no preStop":           {`{spec: {containers: [{name: runner, lifecycle: null}]}}`, "spec.containers[runner].lifecycle: "},
		"restart policy":       {`{spec: {restartPolicy: OnFailure}}`, `spec.restartPolicy: "OnFailure", want Never`},
		"no token":             {`{spec: {volumes: [{name: token, $patch: delete}]}}`, "spec.volumes[token]: "},
		"another token":        {`{spec: {volumes: [{name: token, emptyDir: {}}]}}`, "spec.volumes[token]: "},
		"token for the runner": {`{spec: {containers: [{name: runner, volumeMounts: [{name: token, mountPath: /t}]}]}}`, `spec.containers[runner].volumeMounts[/t]: "token", want another volume`},
		"account":              {`{spec: {serviceAccountName: admin}}`, `spec.serviceAccountName: "admin", want bitbucket-runner`},
		"deadline":             {`{spec: {activeDeadlineSeconds: 60}}`, `spec.activeDeadlineSeconds: "60", want none: a deadline`},
		"eviction":             {`{metadata: {annotations: {karpenter.sh/do-not-disrupt: "false"}}}`, `metadata.annotations.karpenter.sh/do-not-disrupt: "false", want true`},
		"second container":     {`{spec: {containers: [{name: log, image: log}]}}`, `spec.containers[log]: "log", want an init container with restartPolicy Always`},
		"unknown field":        {`{spec: {dnsPolice: Default}}`, `spec.dnsPolice: unknown key`},
		"wrong type":           {`{spec: {priority: high}}`, `spec.priority: "a string", want a value of type int32`},
		"identity":             {`{spec: {containers: [{name: runner, env: [{name: RUNNER_UUID, value: x}]}]}}`, `spec.containers[runner].env[RUNNER_UUID]: "x", want no such variable`},
		"unknown directive":    {`{spec: {$patch: guess}}`, "want a strategic merge patch"},
		"architecture":         {`{spec: {nodeSelector: {kubernetes.io/arch: arm64}}}`, `spec.nodeSelector.kubernetes.io/arch: "arm64", want amd64`},
		"grace":                {`{spec: {terminationGracePeriodSeconds: 1}}`, `spec.terminationGracePeriodSeconds: "1", want 7800`},
	} {
		t.Run(name, func(t *testing.T) {
			patch, err := yaml.YAMLToJSON([]byte(test.patch))
			if err != nil {
				t.Fatal(err)
			}
			g := group(t, nil)
			g.PodTemplates = []json.RawMessage{patch}
			if err := g.Validate(); err == nil || !strings.Contains(err.Error(), "pod_template") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v\nwant pod_template.%s", err, test.want)
			}
		})
	}
}
