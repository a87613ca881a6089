package queue

import (
	"fmt"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

const twoSteps = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, x], script: [sleep 60]}
    - step: {name: Test, runs-on: [self.hosted, linux, x], script: [sleep 60]}
`

// push pushes a file to the repository app and returns the UUIDs of its pipeline's steps.
func (r *rig) push(file string) []StepID {
	r.t.Helper()
	var pushed emulator.Pushed
	r.post("/push", emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: file}, &pushed)
	r.wait(5 * time.Second) // it is parsed
	var steps []StepID
	for _, step := range r.server.State().Steps {
		if step.PipelineUUID == pushed.Pipeline {
			steps = append(steps, StepID{Repository: app, Pipeline: pushed.Pipeline, Step: step.UUID})
		}
	}
	r.Hint(created(app, pushed.Pipeline))
	r.wait(time.Second)
	return steps
}

// says has a runner of a group report.
func (r *rig) says(group int, run Run) {
	r.demand.Runs = []Reported{{Pod: fmt.Sprint("pod of ", group), Group: group, Run: run}}
	r.Use(r.demand)
	r.wait(time.Millisecond)
}

func TestTheNextStepWaitsFromTheReportOfTheLast(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		steps := r.push(twoSteps)
		r.says(0, Run{Running: steps[0]})
		if got := r.answers()[0].Queued; got != 0 {
			t.Errorf("%d queued while the first step runs, want 0", got)
		}
		before := r.calls("/")
		r.says(0, Run{Ended: steps[0], Result: "PASSED"})
		if got := r.answers()[0]; got.Queued != 1 || got.Steps[0].Name != "Test" || !got.Steps[0].Reported {
			t.Errorf("got %+v, want the next step, by report", got)
		}
		if calls := r.calls("/") - before; calls != 0 {
			t.Errorf("%d calls, want none", calls)
		}
		// Bitbucket has never heard of it: nobody ran the first step.
		r.wait(settle + confirmInterval + time.Second)
		if got := r.answers()[0]; got.Queued != 1 || got.Steps[0].Name != "Build" {
			t.Errorf("got %+v a read later, want the first step again", got)
		}
		if got := r.Counts(); got.Predicted != 1 || got.Contradicted != 1 {
			t.Errorf("counts %+v, want one prediction that was wrong", got)
		}
	}, fleet("x", app))
}

func TestAfterAFailureBitbucketDecides(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		steps := r.push(twoSteps)
		r.says(0, Run{Running: steps[0]})
		before := r.calls("/steps")
		r.says(0, Run{Ended: steps[0], Result: "FAILED"})
		if got := r.answers()[0].Queued; got != 0 {
			t.Errorf("%d queued, want none: what follows a failure is not known", got)
		}
		r.wait(hintFloor + time.Second)
		if calls := r.calls("/steps") - before; calls != 1 {
			t.Errorf("%d reads, want one", calls)
		}
		r.wait(time.Hour)
		if calls := r.calls("/steps") - before; calls > 100 {
			t.Errorf("%d reads in the hour after", calls)
		}
	}, fleet("x", app))
}

func TestReportsOfStepsOfOtherGroupsAreNotBelieved(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		steps := r.push(twoSteps)
		for _, run := range []Run{{Running: steps[0]}, {Ended: steps[0], Result: "PASSED"}, {Ended: steps[1], Result: "FAILED"}} {
			r.says(1, run) // of another label
			if got := r.answers()[0]; got.Queued != 1 || got.Steps[0].Name != "Build" {
				t.Errorf("%+v: got %+v, want the first step", run, got)
			}
		}
	}, fleet("x", app), fleet("y", app))
}

func TestRunnersBringAFewRepositoriesToNotice(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		before := r.calls("/pipelines")
		for i := range 1000 {
			r.says(0, Run{Running: StepID{Repository: fmt.Sprintf("{33333333-3333-4333-8333-%012d}", i), Pipeline: app, Step: app}})
		}
		r.wait(time.Minute)
		if calls := r.calls("/pipelines") - before; calls > 100 {
			t.Errorf("%d calls for repositories that are not there", calls)
		}
		if got := r.answers()[0].Unknown; got != "" {
			t.Errorf("unknown: %s", got)
		}
	}, fleet("x", ""))
}

func TestARerunWaitsAgain(t *testing.T) {
	for name, tracked := range map[string]bool{"after its end was noticed": false, "before": true} {
		t.Run(name, func(t *testing.T) {
			virtually(t, waiting(), func(r *rig) {
				r.wait(10 * time.Second)
				steps := r.push(twoSteps)
				pipeline := steps[0].Pipeline
				r.says(0, Run{Running: steps[0]})
				r.says(0, Run{Ended: steps[0], Result: "PASSED"})
				r.says(0, Run{Running: steps[1]})
				r.post("/pipelines/"+pipeline+"/stop", nil, nil)
				if !tracked {
					over := created(app, pipeline)
					over.Over = true
					r.Hint(over)
					r.wait(endedFor + time.Second)
					if got := r.Snapshot().Builds; got != 0 {
						t.Fatalf("%d pipelines are followed after the end", got)
					}
				}
				r.post("/pipelines/"+pipeline+"/rerun", map[string]bool{"all": true}, nil)
				r.says(0, Run{})
				r.Hint(created(app, pipeline))
				r.wait(settle + confirmInterval)
				if got := r.answers()[0]; got.Queued != 1 || got.Steps[0].Name != "Build" {
					t.Errorf("got %+v, want the first step of the new run", got)
				}
			}, fleet("x", app))
		})
	}
}
