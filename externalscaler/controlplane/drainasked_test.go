package controlplane_test

import (
	"testing"
	"time"
)

func TestADrainedRunnerFinishesItsStepAndTheLastOneHasASuccessorFirst(t *testing.T) {
	virtually(t, 1, func(w *world) {
		group := w.apply("fleet", "w0", map[string]string{"min": "1", "max": "3"}, works)
		w.after(5 * time.Minute)
		w.queue("w0", "fleet", 1, 4*time.Minute)
		w.after(6 * time.Minute)
		for _, job := range w.cluster.JobsOf(group.UID) { // one has a step, and by the ratio another came
			w.cluster.Drain(job.UID)
		}
		for begun := time.Now(); time.Since(begun) < 20*time.Minute; sleep(w.ctx, time.Second) {
			shown := w.shown("fleet").Runners
			if online := shown["idle"] + shown["busy"] + shown["replaced"] + shown["unknown"]; online == 0 {
				w.t.Errorf("%s after the request nobody takes steps: %v", time.Since(begun), shown)
				return
			}
		}
		for _, job := range w.cluster.JobsOf(group.UID) {
			if job.Drain {
				w.t.Errorf("Job %s is still there", job.Name)
			}
		}
		if got := w.outcomes(); got["passed"] != 1 || len(got) != 1 {
			w.t.Errorf("outcomes %v, want one passed", got)
		}
		if len(w.events("fleet", "Drained")) == 0 {
			w.t.Errorf("no Event says so: %v", w.cluster.EventsSeen())
		}
	})
}
