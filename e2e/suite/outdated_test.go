package suite

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/e2e/installation"
)

// change adds an annotation to a ScaledJob's pod template. Any change makes its runners
// outdated.
func change(t *testing.T, group string) {
	t.Helper()
	_, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "patch", "scaledjob.keda.sh", group, "--type=merge",
		"-p", `{"spec":{"jobTargetRef":{"template":{"metadata":{"annotations":{"e2e.local/changed":"true"}}}}}}`)
	if err != nil {
		t.Fatal(err)
	}
}

func TestRunnersOfAChangedScaledJobAreReplacedOneByOne(t *testing.T) {
	t.Parallel()
	group(t, "outdated", map[string]string{"min": "2", "max": "5", "scaleUpThreshold": "1"})
	untilOnline(t, "outdated", 2, 0)
	before := strings.Fields(uuids(t, "outdated"))
	steps := queue(t, "outdated", 1, "20s")
	working(t, "outdated")
	change(t, "outdated")
	until(t, "both runners to be replaced", func() (bool, error) {
		all, _ := online(t, "outdated")
		if all < 2 {
			t.Fatalf("%d runners online, want never fewer than 2", all)
		}
		if all > 3 {
			t.Fatalf("%d runners online, want one successor at a time", all)
		}
		now := strings.Fields(uuids(t, "outdated"))
		return all == 2 && len(now) == 2 && !slices.ContainsFunc(now, func(uuid string) bool { return slices.Contains(before, uuid) }), nil
	})
	untilPassed(t, steps)
	until(t, "pods of the new kind alone", func() (bool, error) {
		return !slices.ContainsFunc(pods(t, "outdated"), func(pod corev1.Pod) bool {
			return pod.Status.Phase == corev1.PodRunning && pod.Annotations["e2e.local/changed"] == ""
		}), nil
	})
	if failed := failedJobs(t, "outdated"); len(failed) > 0 {
		t.Errorf("Jobs %v failed", failed)
	}
}
