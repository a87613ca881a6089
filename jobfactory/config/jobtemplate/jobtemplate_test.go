package jobtemplate_test

import (
	"os"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/jobtemplate"
)

// good is a configuration with one group, to which tests append keys.
const good = "groups:\n- name: a\n  workspace: acme\n  labels: [x]\n"

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

func TestTheChangesOfAJobTemplateAreCarriedOverOrNoted(t *testing.T) {
	template, err := jobtemplate.Read([]byte(jobTemplate))
	if err != nil {
		t.Fatal(err)
	}
	content, err := config.ReadWithTemplate([]byte(good+"- {name: own, workspace: acme, labels: [z], node_selector: {pool: big}}\n"), template)
	if err != nil {
		t.Fatal(err)
	}
	job := scaledJob(t, content.Groups[0]).Spec.JobTargetRef.Template
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
	if got := content.Groups[1].NodeSelector; got["pool"] != "big" || got["customer"] != "" {
		t.Errorf("the group's own node selector became %v", got)
	}
	notes := strings.Join(content.Notes, "\n")
	for _, want := range []string{"Secret is not", "spec.backoffLimit is not", "restartPolicy is not", "containers[logs] is not"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note %q in:\n%s", want, notes)
		}
	}
}

// Each group can be rendered with a job template that is accepted.
func FuzzRead(f *testing.F) {
	real, err := os.ReadFile("testdata/cm-job-template.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add([]byte(jobTemplate))
	f.Add([]byte("kind: Job\nspec: {template: {metadata: {labels: {a: '{{ x }}'}}, spec: {hostPID: true, containers: [{name: runner, env: [{name: A}, {name: A}]}]}}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		template, err := jobtemplate.Read(data)
		if err != nil {
			return
		}
		for _, file := range []string{good, good + "  docker: false\n", good + "  grace_period: 1h\n  os: linux.arm64\n"} {
			content, err := config.ReadWithTemplate([]byte(file), template)
			if err != nil {
				t.Fatalf("accepted, but refused for a group: %v", err)
			}
			if _, err := jobfactory.Manifests(content.Groups); err != nil {
				t.Fatalf("accepted, but not rendered: %v", err)
			}
		}
	})
}

func TestABadJobTemplateIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"nothing":       {"", "0 Jobs, want one"},
		"no YAML":       {"a: [", "not YAML"},
		"text":          {"hello", "job template"},
		"unknown field": {"kind: Job\nspec: {template: {spec: {containers: [{name: runner, img: x}]}}}\n", "img: unknown key"},
		"pull policy":   {"kind: Job\nspec: {template: {spec: {containers: [{name: runner, imagePullPolicy: Sometimes}]}}}\n", `as a group's keys: image_pull_policy: "Sometimes", want Always`},
		"no runner":     {"kind: Job\nspec: {template: {spec: {containers: [{name: a}]}}}\n", "want one with the name runner"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := jobtemplate.Read([]byte(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func scaledJob(t *testing.T, g jobfactory.RunnerGroup) *kedav1alpha1.ScaledJob {
	t.Helper()
	job, err := jobfactory.ScaledJob(g)
	if err != nil {
		t.Fatal(err)
	}
	return job
}
