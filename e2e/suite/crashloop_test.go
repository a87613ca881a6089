package suite

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"bitbucket-runner-scaler/e2e/installation"
)

// calls counts all calls to Bitbucket so far.
func calls(t *testing.T) (all int) {
	t.Helper()
	for _, n := range state(t).Counters.Calls {
		all += n
	}
	return all
}

// reaction returns how long it takes from a step that makes a group of one runner busy to
// its second runner.
func reaction(t *testing.T, label string) time.Duration {
	t.Helper()
	untilOnline(t, label, 1, 0)
	begun := time.Now()
	steps := queue(t, label, 1, "15s")
	until(t, "another runner of "+label, func() (bool, error) {
		all, _ := online(t, label)
		return all >= 2, nil
	})
	took := time.Since(begun)
	untilPassed(t, steps)
	return took
}

// reactions returns the longest of some reactions.
func reactions(t *testing.T, labels ...string) (longest time.Duration) {
	t.Helper()
	for _, label := range labels {
		longest = max(longest, reaction(t, label))
	}
	return longest
}

func TestLongManyGroupsBesideOneWhoseRunnersCrash(t *testing.T) {
	const groups = 30
	names := make([]string, groups)
	var applying sync.WaitGroup
	begun := time.Now()
	for i := range names {
		names[i] = fmt.Sprintf("many%02d", i)
		applying.Go(func() {
			err := shared.Apply(t.Context(), installation.Edit{Name: names[i], Metadata: map[string]string{"labels": names[i], "min": "1", "max": "3", "coolDown": "10s"}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	applying.Wait()
	t.Cleanup(func() {
		for _, name := range names {
			if err := shared.Delete(context.WithoutCancel(t.Context()), name); err != nil {
				t.Error(err)
			}
		}
	})
	untilWithin(t, 15*time.Minute, "all groups to have their minimum", func() (bool, error) {
		for _, name := range names {
			if all, _ := online(t, name); all < 1 {
				return false, nil
			}
		}
		return true, nil
	})
	t.Logf("%d groups applied at once had their minimum after %s", groups, time.Since(begun).Round(time.Second))

	alone := reactions(t, names[:3]...)
	before := calls(t)
	quiet := time.Now()
	until(t, "two minutes of rest", func() (bool, error) { return time.Since(quiet) > 2*time.Minute, nil })
	resting := float64(calls(t)-before) / time.Since(quiet).Minutes()

	edited(t, installation.Edit{Name: "crashing", Crash: true, Metadata: map[string]string{"min": "5", "max": "10"}})
	before, begun = calls(t), time.Now()
	var beside time.Duration
	for time.Since(begun) < 10*time.Minute {
		beside = max(beside, reactions(t, names[:3]...))
	}
	lasted := time.Since(begun)
	looping := float64(calls(t)-before) / lasted.Minutes()
	t.Logf("reaction: at most %s alone, %s beside the crash loop; calls per minute: %.1f at rest, %.1f with the crash loop and the steps of %s",
		alone.Round(time.Second), beside.Round(time.Second), resting, looping, lasted.Round(time.Second))
	if beside > 2*alone+10*time.Second {
		t.Errorf("reaction: %s alone, %s beside the crash loop", alone, beside)
	}
	if looping > resting+30 {
		t.Errorf("%.1f calls per minute, %.1f at rest", looping, resting)
	}
	events, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "get", "events", "--field-selector", "involvedObject.name=crashing,reason=CrashLoop", "-o", "jsonpath={.items[*].message}")
	if err != nil || !strings.Contains(events, "exit code 2") {
		t.Errorf("no Event names the exit code: %q, %v", events, err)
	}
	if lost := state(t).Counters.StepsLost; len(lost) > 0 {
		t.Errorf("steps lost: %v", lost)
	}
}
