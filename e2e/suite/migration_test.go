package suite

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/e2e/installation"
)

// renderedBy renders a configuration as a user does, and puts the stand-in runner in.
func renderedBy(t *testing.T, program, config string, flags ...string) string {
	t.Helper()
	render := exec.CommandContext(t.Context(), program, append([]string{"render", "-f", "-"}, flags...)...)
	render.Stdin = strings.NewReader(config)
	out, err := render.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	manifests, err := installation.StandIn(string(out))
	if err != nil {
		t.Fatal(err)
	}
	return manifests
}

// Both forms of the incumbent's file, with its namespaces, labels and numbers, and its job
// template with all its statements.
func TestLongTheIncumbentsFilesRunABurst(t *testing.T) {
	t.Parallel()
	program, err := installation.BuildRunnerctl(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range []string{"incumbent.yaml", "older-form.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	var applied []string
	apply := func(name string) {
		manifests := renderedBy(t, program, files[name], "--job-template", filepath.Join("testdata", "job-template.yaml"))
		applied = append(applied, manifests)
		if _, err := shared.Kube.Run(t.Context(), manifests, "apply", "--server-side", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	labels := []string{"gke.runner", "demo1", "demo2", "demo3"}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		// Groups first: what their runners need to take leave goes last.
		for _, namespace := range []string{"default", "runner-group-1", "runner-group-2", "runner-group-3"} {
			if _, err := shared.Kube.Run(ctx, "", "delete", "scaledjobs", "--all", "-n", namespace, "--timeout=120s"); err != nil {
				t.Error(err)
			}
		}
		until(t, "no runner of theirs to be left", func() (bool, error) {
			left := 0
			for _, label := range labels {
				left += len(runners(t, label))
			}
			return left == 0, nil
		})
		for _, manifests := range applied {
			if _, err := shared.Kube.Run(ctx, manifests, "delete", "--ignore-not-found", "--timeout=150s", "-f", "-"); err != nil {
				t.Error(err)
			}
		}
	})
	for name := range files {
		apply(name)
	}
	for _, label := range []string{"gke.runner", "demo1", "demo3"} {
		untilOnline(t, label, 1, 0)
	}
	found, err := shared.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "customer=shared"})
	if err != nil || len(found.Items) == 0 || found.Items[0].Annotations["team"] != "builds" ||
		!slices.ContainsFunc(found.Items[0].Spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == "BUILD_CACHE" }) {
		t.Errorf("the job template is not in the pods: %+v, %v", found, err)
	}
	var steps []string
	for label, count := range map[string]int{"gke.runner": 4, "demo1": 2, "demo3": 4} {
		steps = append(steps, queue(t, label, count, "10s")...)
	}
	untilPassed(t, steps)
	if left := runners(t, "demo2"); len(left) > 0 {
		t.Errorf("a manual group of 0 has runners: %+v", left)
	}
	for set, peak := range state(t).Counters.PeakOnline {
		switch {
		case strings.Contains(set, "demo1") && peak != 1:
			t.Errorf("a manual group of 1 had %d runners online", peak)
		case strings.Contains(set, "demo3") && peak < 2, strings.Contains(set, "gke.runner") && peak < 2:
			t.Errorf("%s: at most %d was online at once in a burst", set, peak)
		}
	}
	files["older-form.yaml"] = strings.Replace(files["older-form.yaml"], "runners_count: 1 ", "runners_count: 0 ", 1)
	apply("older-form.yaml")
	until(t, "the manual group that was set to 0 to be without runners", func() (bool, error) { return len(runners(t, "demo1")) == 0, nil })
}
