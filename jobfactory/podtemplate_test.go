package jobfactory_test

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory"
)

// What the scaler, the sidecar and the reaper rely on cannot be merged away.
func TestAnOverlayThatBreaksThePodIsRefused(t *testing.T) {
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
		"deadline":             {`{spec: {activeDeadlineSeconds: 60}}`, `spec.activeDeadlineSeconds: "60", want null`},
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
			config, err := jobfactory.ReadConfig([]byte(good + "  pod_template: " + test.patch + "\n"))
			if err == nil {
				t.Fatalf("accepted: %+v", config)
			}
			if want := "line 5: groups[0].pod_template"; !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("not told: %s … %s\ngot: %v", want, test.want, err)
			}
		})
	}
}

func TestKeysOfThePodAreChecked(t *testing.T) {
	for name, test := range map[string]struct{ yaml, want string }{
		"variable of ours":     {"env: [{name: OAUTH_CLIENT_SECRET, value: x}]", `env[0].name: "OAUTH_CLIENT_SECRET", want another one`},
		"variable twice":       {"env: [{name: A, value: x}, {name: A, value: y}]", `env[1].name: "A", want each name once`},
		"volume of ours":       {"volumes: [{name: token, emptyDir: {}}]", `volumes[0].name: "token", want another name`},
		"mount of nothing":     {"volume_mounts: [{name: a, mountPath: /a}]", `volume_mounts[0].name: "a", want the name of one of the group's volumes`},
		"mount over the link":  {"volumes: [{name: a, emptyDir: {}}]\n  volume_mounts: [{name: a, mountPath: /run/x}]", `volume_mounts[0].mountPath: "/run/x", want a path that neither hides`},
		"mount over all":       {"volumes: [{name: a, emptyDir: {}}]\n  docker_volume_mounts: [{name: a, mountPath: /}]", `docker_volume_mounts[0].mountPath: "/", want`},
		"pull policy":          {"image_pull_policy: Sometimes", `image_pull_policy: "Sometimes", want Always`},
		"mirror as a URL":      {"image_mirror: https://mirror", `image_mirror: "https://mirror", want a registry`},
		"proxy":                {"proxy: {http: proxy}", `proxy.http: "proxy", want a URL`},
		"priority class":       {"priority_class: A_B", `priority_class: "A_B", want the name of a PriorityClass`},
		"affinity":             {"affinity: {nodeAffinty: {}}", "affinity.nodeAffinty: unknown key"},
		"affinity as a list":   {"affinity: [a]", `affinity: "a list", want a mapping`},
		"overlay of nothing":   {"pod_template: 1", `pod_template: "1", want a mapping`},
		"overlay of itself":    {"pod_template: &a {b: *a}", "pod_template"},
		"several at once":      {"priority_class: A_B\n  image_pull_secrets: [C_D]", `image_pull_secrets[0]: "C_D", want the name of a Secret`},
		"keys that are no key": {"env: [{1: 2}]", "env[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := jobfactory.ReadConfig([]byte(good + "  " + test.yaml + "\n"))
			if err == nil || !strings.Contains(err.Error(), "groups[0]."+test.want) {
				t.Errorf("got %v\nwant groups[0].%s", err, test.want)
			}
		})
	}
}

func TestAProxysCredentialsAreNotShown(t *testing.T) {
	_, err := jobfactory.ReadConfig([]byte(good + "  proxy: {http: 'http://user:hunter2@proxy:3128'}\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "groups[0].proxy.http: has credentials") {
		t.Errorf("got %v, want a fault that does not show them", err)
	}
}
