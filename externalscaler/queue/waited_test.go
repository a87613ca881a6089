package queue

import (
	"testing"
	"time"
)

func TestHowLongAStepWaitsIsMeasuredUntilItsRunnerReportsIt(t *testing.T) {
	var waits []time.Duration
	virtually(t, waiting(), func(r *rig) {
		r.config.Waited = func(namespace, name string, wait time.Duration) {
			if namespace != "ns" || name != "x" {
				t.Errorf("a wait of %s/%s, want ns/x", namespace, name)
			}
			waits = append(waits, wait)
		}
		r.wait(10 * time.Second)
		steps := r.push(twoSteps)
		waited := time.Since(r.answers()[0].Steps[0].Since)
		r.wait(20 * time.Second)
		r.says(0, Run{Running: steps[0]})
		r.wait(time.Minute) // it is read again, and reported again
		r.says(0, Run{Running: steps[0]})
		if len(waits) != 1 || (waits[0]-waited-20*time.Second).Abs() > time.Second {
			t.Errorf("measured %v, want 20 s more than %v, once", waits, waited)
		}
		r.says(0, Run{Ended: steps[0], Result: "PASSED"}) // the second one waits from now on
		r.wait(3 * time.Second)
		r.says(0, Run{Running: steps[1]})
		if len(waits) != 2 || (waits[1]-3*time.Second).Abs() > time.Second {
			t.Errorf("measured %v, want also the 3 s of the second step", waits)
		}
	}, fleet("x", app))
}

// Bitbucket shows a step running before its runner reports it.
func TestAWaitIsMeasuredAlsoIfBitbucketIsAheadOfTheRunner(t *testing.T) {
	var waits []time.Duration
	virtually(t, waiting(), func(r *rig) {
		r.config.Waited = func(_, _ string, wait time.Duration) { waits = append(waits, wait) }
		r.wait(10 * time.Second)
		steps := r.push(twoSteps)
		since := r.answers()[0].Steps[0].Since
		r.wait(20 * time.Second)
		r.demand.Shown = map[string]time.Time{steps[0].Step: time.Now()}
		r.says(1, Run{}) // a list shows it on a runner, and that one has not reported it
		if got := r.answers()[0].Queued; got != 0 {
			t.Fatalf("%d queued, want none", got)
		}
		r.wait(10 * time.Second)
		want := time.Since(since)
		r.says(0, Run{Running: steps[0]})
		if len(waits) != 1 || (waits[0]-want).Abs() > time.Second {
			t.Errorf("measured %v, want %v", waits, want)
		}
	}, fleet("x", app), fleet("y", app))
}
