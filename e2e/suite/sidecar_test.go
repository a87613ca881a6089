package suite

import (
	"testing"
)

func TestAStepOutlivesItsSidecarsDeath(t *testing.T) {
	t.Parallel()
	group(t, "orphaned", still)
	untilOnline(t, "orphaned", 1, 0)
	steps := queue(t, "orphaned", 1, "20s")
	pod := working(t, "orphaned")
	first := processOf(t, string(pod.UID), "/sidecar", "run")
	first.kill(t)
	until(t, "the sidecar to run again", func() (bool, error) {
		second := processOf(t, string(pod.UID), "/sidecar", "run")
		return second.pid != first.pid, nil
	})
	untilPassed(t, steps)
	// It still has the runner in hand: it takes another step, and ends when told.
	untilPassed(t, queue(t, "orphaned", 1, "1s"))
	begun := runners(t, "orphaned")
	if len(begun) != 1 || begun[0].StepsTaken != 2 {
		t.Errorf("runners %+v, want the one that took both steps", begun)
	}
	evict(t, pod)
	untilEnded(t, pod)
	if failed := failedJobs(t, "orphaned"); len(failed) > 0 {
		t.Errorf("Jobs %v failed", failed)
	}
}
