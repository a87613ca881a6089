package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	corev1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/e2e/installation"
	"bitbucket-runner-scaler/jobfactory/lint"
)

// linter builds runnerctl. It returns a function that lints the cluster and returns the
// output, the error output and the exit code.
func linter(t *testing.T) func(args ...string) (out []byte, complaint string, code int) {
	t.Helper()
	program, err := installation.BuildRunnerctl(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (out []byte, complaint string, code int) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, append([]string{"lint", "--kubeconfig", shared.plane.Kubeconfig()}, args...)...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		var exit *exec.ExitError
		if err := cmd.Run(); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return stdout.Bytes(), stderr.String(), code
	}
}

// foundBy returns the rules with findings in JSON, each with its object.
func foundBy(t *testing.T, out []byte) []string {
	t.Helper()
	if len(out) == 0 {
		return nil
	}
	var findings []lint.Finding
	if err := json.Unmarshal(out, &findings); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var found []string
	for _, finding := range findings {
		found = append(found, finding.Rule+" "+finding.Object)
	}
	slices.Sort(found)
	return found
}

// node creates a Node of that size, which exists only as an object.
func node(t *testing.T, name, cpu, memory string) {
	t.Helper()
	size := corev1.ResourceList{
		corev1.ResourceCPU: quantity.MustParse(cpu), corev1.ResourceMemory: quantity.MustParse(memory),
		corev1.ResourceEphemeralStorage: quantity.MustParse("100Gi"), corev1.ResourcePods: quantity.MustParse("10"),
	}
	nodes := shared.client.CoreV1().Nodes()
	made, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kubectl(t, "", "delete", "node", name) })
	made.Status.Allocatable, made.Status.Capacity = size, size
	if _, err := nodes.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// faulty returns the example's ScaledJob with faults that need no node, and one that does.
func faulty(t *testing.T, example string) *unstructured.Unstructured {
	t.Helper()
	for document := range strings.SplitSeq(example, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		if object.GetKind() != "ScaledJob" {
			continue
		}
		object.SetName("faulty")
		object.SetNamespace("faulty-builds")
		spec, _, _ := unstructured.NestedMap(object.Object, "spec")
		containers, _, _ := unstructured.NestedSlice(spec, "jobTargetRef", "template", "spec", "containers")
		trigger, _ := spec["triggers"].([]any)[0].(map[string]any)
		if err := errors.Join(
			unstructured.SetNestedField(trigger, "faulty", "metadata", "labels"),
			unstructured.SetNestedField(spec, int64(1), "minReplicaCount"),
			unstructured.SetNestedField(spec, "eager", "scalingStrategy", "strategy"),
			unstructured.SetNestedField(containers[0].(map[string]any), "64", "resources", "requests", "cpu"),
			unstructured.SetNestedField(containers[0].(map[string]any), "64", "resources", "limits", "cpu"),
			unstructured.SetNestedSlice(spec, containers, "jobTargetRef", "template", "spec", "containers"),
		); err != nil {
			t.Fatal(err)
		}
		object.Object["spec"] = spec
		return object
	}
	t.Fatal("the example has no ScaledJob")
	return nil
}

func TestLintReadsTheClustersScaledJobs(t *testing.T) {
	lints := linter(t)
	good := kustomized(t, "examples") // its pods ask for 2 CPUs at most
	kubectl(t, good, "apply", "--server-side", "-f", "-")
	t.Cleanup(func() { kubectl(t, good, "delete", "-f", "-") })
	kubectl(t, "", "create", "namespace", "faulty-builds")
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", "faulty-builds", "--wait=false") })
	if err := create(t.Context(), faulty(t, good), false); err != nil {
		t.Fatal(err)
	}
	node(t, "of-4-cpus", "4", "16Gi")
	const object = "faulty-builds/faulty"
	faults := []string{"min-replica-count " + object, "no-node-fits " + object, "scaling-strategy " + object}
	for name, test := range map[string]struct {
		args      []string
		found     []string
		code      int
		complaint string
	}{
		"a namespace with faults":     {args: []string{"-n", "faulty-builds"}, found: faults, code: 1},
		"one without":                 {args: []string{"-n", installation.Runners}},
		"all":                         {args: []string{"-A"}, found: faults, code: 1},
		"the context's":               {},
		"an applied file beside it":   {args: []string{"-n", installation.Runners, filepath.Join(shared.root, "deploy", "examples")}},
		"a context that is not there": {args: []string{"--context", "other"}, code: 2, complaint: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			out, complaint, code := lints(append([]string{"-o", "json"}, test.args...)...)
			if found := foundBy(t, out); !slices.Equal(found, test.found) || code != test.code || !strings.Contains(complaint, test.complaint) {
				t.Errorf("found %q, exit code %d, %s, want %q, %d, %q", found, code, complaint, test.found, test.code, test.complaint)
			}
		})
	}
	out, _, _ := lints("-A", "-o", "sarif")
	decoder := json.NewDecoder(bytes.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sarif.Report{}); err != nil {
		t.Errorf("SARIF: %v: %s", err, out)
	}
	report, err := sarif.FromBytes(out)
	if err != nil {
		t.Fatalf("SARIF: %v: %s", err, out)
	}
	for _, run := range report.Runs { // what the library adds, and refuses
		run.Language, run.Tool.Driver.Language, run.NewlineSequences = "en-US", "en-US", []string{"\n"}
	}
	if err := report.Validate(); err != nil || len(report.Runs) != 1 || len(report.Runs[0].Results) != len(faults) {
		t.Errorf("SARIF: %v, want %d results in one run: %s", err, len(faults), out)
	}
}
