package lint

import (
	"slices"
	"strings"
	"testing"
)

// found returns the IDs of the rules that find something in a file.
func found(findings []Finding) []string {
	var ids []string
	for _, f := range findings {
		ids = append(ids, f.Rule)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func TestTriggersOfOtherScalersAreLeftAlone(t *testing.T) {
	for name, metadata := range map[string]string{
		"of GitHub's runners":     "{scalerAddress: 'github-scaler.ci:9090', labels: 'a', workspace: b}",
		"with a like-named value": "{scalerAddress: 'terraform.ci:9090', workspace: bitbucket-runner-scaler}",
		"without an address":      "{labels: 'self-hosted'}",
	} {
		file := "apiVersion: keda.sh/v1alpha1\nkind: ScaledJob\nmetadata: {name: a, namespace: b}\nspec:\n  jobTargetRef: {template: {spec: {containers: [{name: a, image: b}]}}}\n  triggers:\n  - {type: external, metadata: " + metadata + "}\n"
		if got := found(check(DefaultOptions(), file)); !slices.Equal(got, []string{"no-groups"}) {
			t.Errorf("%s: got %q, want only that the file has no group", name, got)
		}
		in := &Input{}
		if in.ReadFound("a.yaml", []byte(file)) || in.Groups() != 0 {
			t.Errorf("%s: judged in a folder", name)
		}
	}
}

func TestInFoldersOnlyWhatIsTheScalersIsJudged(t *testing.T) {
	for name, test := range map[string]struct {
		file   string
		judged bool
	}{
		"nothing":               {"", false},
		"a list":                {"- a\n", false},
		"text":                  {"hello\n", false},
		"another YAML":          {"groups: {a: b}\nconfig: x\n", false},
		"no YAML":               {"a: [\n", false},
		"a template":            {"kind: ScaledJob\n{{- if .x }}\nspec: {}\n{{- end }}\n", false},
		"a template as YAML":    {"kind: ScaledJob\nmetadata: {name: '{{ .Release.Name }}'}\n", false},
		"other objects":         {"kind: Deployment\nmetadata: {name: a}\n", false},
		"groups":                {"groups: []\n", true},
		"a configuration":       {"config:\n- {name: a, workspace: b, labels: [c]}\n", true},
		"a broken one":          {"groups:\n- a: [\n", true},
		"a broken manifest":     {"kind: ScaledJob\nspec: [\n", true},
		"a misspelt kind":       {"apiVersion: keda.sh/v1alpha1\nkind: ScaledJobb\n", true},
		"in a ConfigMap":        {"kind: ConfigMap\ndata: {a: 'groups: []'}\n", true},
		"another ConfigMap":     {"kind: ConfigMap\ndata: {a: 'groups: 3'}\n", false},
		"a configuration below": {"a:\n  groups:\n  - {workspace: b}\n", true},
		"a document too many":   {"groups: []\n---\ngroups: []\n", true},
	} {
		in := &Input{}
		if judged := in.ReadFound("a.yaml", []byte(test.file)); judged != test.judged || !judged && len(in.findings) > 0 {
			t.Errorf("%s: judged %v, want %v: %+v", name, judged, test.judged, in.findings)
		}
	}
}

// The README of Atlassian's tool indents constants where YAML does not allow a key.
func TestLintReadsWhatRenderReads(t *testing.T) {
	older := "config:\n  - name: a\n    workspace: acme\n    labels: [x]\n    parameters:\n      min: 5\n      max: 4\n\n  constants:\n    runner_cool_down_period: often\n"
	var lines []int
	for _, f := range check(DefaultOptions(), older) {
		if f.Rule == "config-invalid" {
			lines = append(lines, f.Line)
		}
	}
	if len(lines) != 2 || lines[0] < 6 || lines[0] > 7 || lines[1] != 10 {
		t.Errorf("faults on the lines %v, want on those of min and of runner_cool_down_period", lines)
	}
	comment := "groups:\n- {name: a, workspace: acme, labels: [x], docker_resources: {limits: {memory: 4Gi}}}\n---\n# the end\n"
	if got := check(DefaultOptions(), comment); len(got) > 0 {
		t.Errorf("a comment after the last ---: %+v", got)
	}
}

func TestWhatEndsWithTheRunnerIsNotReported(t *testing.T) {
	good := example(t, "scaledjob.yaml")
	for name, annotations := range map[string]string{
		"native in Istio":    "sidecar.istio.io/inject: \"true\"\n          sidecar.istio.io/nativeSidecar: \"true\"",
		"native in Linkerd":  "linkerd.io/inject: enabled\n          config.beta.linkerd.io/proxy-enable-native-sidecar: \"true\"",
		"an init container":  "vault.hashicorp.com/agent-inject: \"true\"\n          vault.hashicorp.com/agent-pre-populate-only: \"true\"",
		"injection is off":   "sidecar.istio.io/inject: \"false\"",
		"a revision, but no": "istio.io/rev: \"\"",
	} {
		text := strings.Replace(good, "          karpenter.sh", "          "+annotations+"\n          karpenter.sh", 1)
		text = strings.Replace(text, "    pod-security.kubernetes.io/enforce", "    x: enabled\n    pod-security.kubernetes.io/enforce", 1)
		if got := check(DefaultOptions(), text); len(got) > 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	loopback := strings.Replace(good, "          - --host=unix:///var/run/docker.sock\n", "          - --host=unix:///var/run/docker.sock\n          - --host=tcp://127.0.0.1:2375\n", 1)
	if got := check(DefaultOptions(), loopback); len(got) > 0 {
		t.Errorf("a daemon that only the pod reaches: %+v", got)
	}
}
