package policy

import (
	"testing"
	"time"
)

func TestATallyCountsChangesAndTheTimeAtTheMaximum(t *testing.T) {
	begun := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	var tally Tally
	for _, step := range []struct {
		after     time.Duration
		strategy  Strategy
		reason    Reason
		effective int
		weight    int // dead weight
		changed   bool
	}{
		{0, QueuedSteps, ReasonHold, 2, 0, true},
		{10 * time.Second, QueuedSteps, ReasonHold, 2, 0, false},
		{20 * time.Second, QueuedSteps, ReasonAboveMax, 5, 0, true}, // at its maximum for 70 s
		{60 * time.Second, QueuedSteps, ReasonAboveMax, 5, 0, false},
		{90 * time.Second, QueuedSteps, ReasonScaleDown, 4, 0, true},
		{100 * time.Second, QueuedSteps, ReasonScaleDown, 4, 1, true},
		{200 * time.Second, Fixed, ReasonFixed, 5, 0, true}, // it has what it should have
		{300 * time.Second, Fixed, ReasonFixed, 5, 0, false},
	} {
		d := Decision{Reason: step.reason, Effective: step.effective, Target: step.effective + step.weight, Time: begun.Add(step.after), Rules: Rules{Strategy: step.strategy, Max: 5}}
		if got := tally.Add(d); got != step.changed {
			t.Errorf("after %v: changed %v, want %v", step.after, got, step.changed)
		}
	}
	if tally.AtMax != 70*time.Second {
		t.Errorf("at its maximum for %v, want 70 s", tally.AtMax)
	}
	for reason, want := range map[Reason]int{ReasonHold: 1, ReasonAboveMax: 1, ReasonScaleDown: 2, ReasonFixed: 1} {
		if got := tally.Changes[reason]; got != want {
			t.Errorf("%s: %d changes, want %d", reason, got, want)
		}
	}
	kept := tally.Clone()
	tally.Add(Decision{Reason: ReasonHold, Effective: 1})
	if kept.Changes[ReasonHold] != 1 {
		t.Error("a clone changes")
	}
}
