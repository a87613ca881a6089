package round

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/clock"
	"bitbucket-runner-scaler/e2e/chaos/plan"
	"bitbucket-runner-scaler/externalscaler/status"
)

// watching runs a test with a round of one group that scales by the queue.
func watching(t *testing.T, test func(r *Round, g plan.Group)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, err := clock.New(filepath.Join(dir, "clock"), 1)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		g := plan.Group{Name: "g", Namespace: "a", Min: 1, Max: 5, CoolDown: 20 * time.Second, ByQueue: true}
		test(&Round{id: "r", dir: dir, plan: plan.Plan{Rate: 1, Groups: []plan.Group{g}}, clock: c, watch: newWatch()}, g)
	})
}

// look compares each second for some time.
func (r *Round) look(g plan.Group, d time.Duration, desired int, unknown string, waits []string, state emulator.State) {
	shown := status.Group{Namespace: r.namespace(g.Namespace), Name: g.Name, Desired: desired, Queue: &status.Queue{Queued: len(waits), Unknown: unknown}}
	for _, uuid := range waits {
		shown.Queue.Steps = append(shown.Queue.Steps, status.Step{UUID: uuid})
	}
	for range int(d / time.Second) {
		time.Sleep(time.Second)
		r.compare("scaler", []status.Group{shown}, state)
	}
}

func (r *Round) steps(g plan.Group, outcomes ...string) (state emulator.State) {
	for i, outcome := range outcomes {
		state.Steps = append(state.Steps, emulator.StepInfo{UUID: string(rune('a' + i)), Outcome: outcome, Labels: []string{r.label(g)}})
	}
	return state
}

func (r *Round) wantViolations(t *testing.T, parts ...string) {
	t.Helper()
	if len(r.record.Violations) != len(parts) {
		t.Fatalf("violations %q, want %d", r.record.Violations, len(parts))
	}
	for i, part := range parts {
		if !strings.Contains(r.record.Violations[i], part) {
			t.Errorf("violation %q, want %q", r.record.Violations[i], part)
		}
	}
}

func TestAStepThatHasEndedCountsOnlyUntilTheNextRead(t *testing.T) {
	watching(t, func(r *Round, g plan.Group) {
		waits := []string{"a"}
		r.look(g, 10*time.Minute, 1, "", waits, r.steps(g, emulator.OutcomeQueued))
		r.look(g, phantomFor, 1, "", waits, r.steps(g, emulator.OutcomePassed))
		r.wantViolations(t)
		if r.haunted() == nil {
			t.Error("the step is not noticed before the bound")
		}
		r.look(g, time.Minute, 1, "", nil, r.steps(g, emulator.OutcomePassed))
		if err := r.haunted(); err != nil {
			t.Error(err)
		}
		r.look(g, 2*phantomFor, 1, "throttled", waits, r.steps(g, emulator.OutcomePassed))
		if err := r.haunted(); err != nil {
			t.Error(err)
		}
		r.wantViolations(t)
		r.look(g, phantomFor+2*time.Second, 1, "", waits, r.steps(g, emulator.OutcomePassed))
		r.wantViolations(t, "for step a, which does not wait")
	})
}

func TestWhileTheScalerCannotReadNothingIsExpectedOfIt(t *testing.T) {
	watching(t, func(r *Round, g plan.Group) {
		f := plan.Fault{Kind: plan.PipelinesThrottled, For: time.Minute}
		end := r.blind(f)
		ended := r.steps(g, emulator.OutcomePassed)
		r.look(g, 2*phantomFor, 4, "", []string{"a"}, ended)
		end()
		r.look(g, f.For+phantomFor-time.Second, 4, "", []string{"a"}, ended)
		r.wantViolations(t)
		r.look(g, 2*time.Second, 4, "", []string{"a"}, ended)
		r.wantViolations(t, "for step a, which does not wait")
	})
}

func TestAGroupThatGrowsForNoStepIsNoticed(t *testing.T) {
	window := phantomFor + 20*time.Second
	watching(t, func(r *Round, g plan.Group) {
		r.look(g, 2*window, 3, "", nil, r.steps(g, emulator.OutcomeQueued, emulator.OutcomeQueued, emulator.OutcomeRunning))
		r.look(g, window-time.Second, 3, "", nil, r.steps(g, emulator.OutcomePassed))
		r.look(g, window, 3, "throttled", nil, r.steps(g))
		r.wantViolations(t)
		r.look(g, window+2*time.Second, 2, "", nil, r.steps(g))
		r.wantViolations(t, "asked for 2 runners, and needed no more than 1")
	})
}
