package queue

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// TestStepsThatHaveEndedCountUntilTheNextRead loses the delivery that a pipeline was stopped. As
// long as the pipelines cannot be read, the answer says so.
func TestStepsThatHaveEndedCountUntilTheNextRead(t *testing.T) {
	const throttled = 10 * time.Minute
	for name, fault := range map[string]emulator.FaultRule{
		"at once":                  {},
		"Bitbucket is throttled":   {Method: "GET", Path: "*/pipelines*", Status: 429},
		"Bitbucket fails":          {Method: "GET", Path: "*/pipelines*", Status: 503},
		"Bitbucket's answers lag":  {Method: "GET", Path: "*/pipelines*", StaleFor: "30s"},
		"Bitbucket has lost files": {Method: "GET", Path: "*/src/*", Status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, waiting(), func(r *rig) {
				r.wait(10 * time.Second)
				steps := r.push(twoSteps)
				if got := r.answers()[0]; got.Queued != 1 || got.Unknown != "" {
					t.Fatalf("got %+v, want the first step", got)
				}
				if fault.Path != "" {
					r.post("/faults", emulator.FaultRules{Rules: []emulator.FaultRule{fault}}, nil)
				}
				r.post("/pipelines/"+steps[0].Pipeline+"/stop", nil, nil)
				if fault.Status == 429 || fault.Status == 503 {
					r.wait(throttled)
					if got := r.answers()[0]; got.Unknown == "" {
						t.Errorf("got %+v while nothing can be read, want the reason", got)
					}
					r.post("/faults", emulator.FaultRules{}, nil)
					r.wait(retryMost + time.Second)
					for range 30 { // the refusals count as calls of others, and the budget recovers minute by minute
						if r.answers()[0].Unknown != "" {
							r.wait(time.Minute)
						}
					}
				} else {
					r.wait(confirmInterval + settle + time.Second)
				}
				if got := r.answers()[0]; got.Queued != 0 || got.Unknown != "" {
					t.Errorf("got %+v, want nothing after the next read", got)
				}
			}, fleet("x", app))
		})
	}
}

// TestTheQueueIsSeenAgainOnceTheBudgetAllows uses up the budget for longer than the longest wait
// after failures.
func TestTheQueueIsSeenAgainOnceTheBudgetAllows(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		r.push(twoSteps)
		r.broke.Store(true)
		r.wait(30 * time.Minute)
		if got := r.answers()[0]; got.Unknown == "" {
			t.Errorf("got %+v without calls left, want the reason", got)
		}
		r.broke.Store(false)
		r.wait(time.Minute + time.Second)
		if got := r.answers()[0]; got.Queued != 1 || got.Unknown != "" {
			t.Errorf("got %+v, want the step that waits", got)
		}
	}, fleet("x", app))
}
