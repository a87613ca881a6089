package jobfactory_test

import (
	"os"
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory"
)

const jobTemplate = `apiVersion: v1
kind: ConfigMap
metadata: {name: runner-job}
data:
  job.yaml.template: |
    apiVersion: v1
    kind: List
    items:
    - {apiVersion: v1, kind: Secret, metadata: {name: "runner-oauth-credentials-<%runnerUuid%>"}}
    - apiVersion: batch/v1
      kind: Job
      metadata: {name: "runner-<%runnerUuid%>"}
      spec:
        backoffLimit: 6
        template:
          metadata:
            labels: {customer: shared, runnerUuid: "<%runnerUuid%>"}
          spec:
            restartPolicy: OnFailure
            terminationGracePeriodSeconds: 600
            nodeSelector: {customer: shared}
            dnsPolicy: Default
            volumes: [{name: tmp}, {name: cache, hostPath: {path: /cache}}]
            containers:
            - name: runner
              image: mirror.example.com/runner:3
              env: [{name: RUNNER_UUID, value: "{<%runnerUuid%>}"}, {name: MAVEN_OPTS, value: -Xmx1g}]
              volumeMounts: [{name: tmp, mountPath: /tmp}, {name: cache, mountPath: /cache}]
            - name: docker-in-docker
              image: docker:20-dind
              securityContext: {privileged: true}
            - {name: logs, image: fluentbit}
`

func TestWhatAJobTemplateChangesIsCarriedOverOrNamed(t *testing.T) {
	template, err := jobfactory.ReadJobTemplate([]byte(jobTemplate))
	if err != nil {
		t.Fatal(err)
	}
	config, err := jobfactory.ReadConfigOn([]byte(good+"- {name: own, workspace: acme, labels: [z], node_selector: {pool: big}}\n"), template)
	if err != nil {
		t.Fatal(err)
	}
	job := scaledJob(t, config.Groups[0]).Spec.JobTargetRef.Template
	rendered, err := jobfactory.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"customer: shared", "mirror.example.com/runner:3", "docker:20-dind", "MAVEN_OPTS", "mountPath: /cache", "dnsPolicy: Default", "terminationGracePeriodSeconds: 600",
	} {
		if !strings.Contains(string(rendered), want) {
			t.Errorf("not carried over: %s\n%s", want, rendered)
		}
	}
	for _, refused := range []string{"placeholder", "RUNNER_UUID", "fluentbit"} {
		if strings.Contains(string(rendered), refused) {
			t.Errorf("carried over: %s", refused)
		}
	}
	if got := config.Groups[1].NodeSelector; got["pool"] != "big" || got["customer"] != "" {
		t.Errorf("the group's own node selector became %v", got)
	}
	notes := strings.Join(config.Notes, "\n")
	for _, want := range []string{"Secret is not", "spec.backoffLimit is not", "restartPolicy is not", "containers[logs] is not"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note %q in:\n%s", want, notes)
		}
	}
}

// A job template that is accepted suits every group.
func FuzzReadJobTemplate(f *testing.F) {
	real, err := os.ReadFile("testdata/job-template/cm-job-template.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add([]byte(jobTemplate))
	f.Add([]byte("kind: Job\nspec: {template: {metadata: {labels: {a: '{{ x }}'}}, spec: {hostPID: true, containers: [{name: runner, env: [{name: A}, {name: A}]}]}}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		template, err := jobfactory.ReadJobTemplate(data)
		if err != nil {
			return
		}
		for _, file := range []string{good, good + "  docker: false\n", good + "  grace_period: 1h\n  os: linux.arm64\n"} {
			config, err := jobfactory.ReadConfigOn([]byte(file), template)
			if err != nil {
				t.Fatalf("accepted, and no group can have it: %v", err)
			}
			if _, err := jobfactory.Manifests(config.Groups); err != nil {
				t.Fatalf("accepted, and not rendered: %v", err)
			}
		}
	})
}

func TestWhatIsNoJobTemplateIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"nothing":       {"", "0 Jobs, want one"},
		"no YAML":       {"a: [", "not YAML"},
		"text":          {"hello", "job template"},
		"unknown field": {"kind: Job\nspec: {template: {spec: {containers: [{name: runner, img: x}]}}}\n", "img: unknown key"},
		"pull policy":   {"kind: Job\nspec: {template: {spec: {containers: [{name: runner, imagePullPolicy: Sometimes}]}}}\n", `as a group's own keys would: image_pull_policy: "Sometimes", want Always`},
		"no runner":     {"kind: Job\nspec: {template: {spec: {containers: [{name: a}]}}}\n", "want one named runner"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := jobfactory.ReadJobTemplate([]byte(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
