package queue

import (
	"testing"
	"time"
)

const deploys = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, x], script: [sleep 60]}
    - step: {name: Deploy, deployment: production, runs-on: [self.hosted, linux, x], script: [sleep 60]}
`

func TestAStepWhoseLockAnotherPipelineHasDoesNotCount(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		first, second := r.push(deploys), r.push(deploys)
		report := func(pod string, run Run) {
			r.demand.Runs = append(r.demand.Runs, Reported{Pod: pod, Group: 0, Run: run})
			r.Use(r.demand)
			r.wait(time.Millisecond)
		}
		waits := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, step := range r.answers()[0].Steps {
				got = append(got, step.Name)
			}
			if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
				t.Errorf("%s: %v wait, want %v", when, got, want)
			}
		}
		waits("at first", "Build", "Build")
		report("a", Run{Running: first[0]})
		report("b", Run{Running: second[0]})
		waits("while both build")
		report("c", Run{Ended: first[0], Result: "PASSED", Running: first[1]})
		report("d", Run{Ended: second[0], Result: "PASSED"})
		waits("while the first one deploys")
		report("e", Run{Ended: first[1], Result: "PASSED"})
		waits("after that", "Deploy")
	}, fleet("x", app))
}

func TestOfTwoStepsThatNeedOneLockOneCounts(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		first, second := r.push(deploys), r.push(deploys)
		for i, steps := range [][]StepID{first, second} {
			r.demand.Runs = append(r.demand.Runs, Reported{Pod: string(rune('a' + i)), Group: 0, Run: Run{Running: steps[0]}})
		}
		r.Use(r.demand)
		for i, steps := range [][]StepID{first, second} {
			r.demand.Runs[i].Run = Run{Ended: steps[0], Result: "PASSED"}
		}
		r.Use(r.demand)
		if got := r.answers()[0]; got.Queued != 1 || got.Steps[0].Build != 1 {
			t.Errorf("got %+v, want the older one", got)
		}
	}, fleet("x", app))
}
