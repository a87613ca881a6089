package reaper

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

func TestAConditionCountsWhatThisProcessHasSeen(t *testing.T) {
	m := newMemory(5 * time.Second)
	at := now
	look := func(after time.Duration, holds bool) watched {
		at = at.Add(after)
		m.watch("x", lost, holds, at, at)
		return m.get("x", lost)
	}
	look(0, true)
	if w := look(3*time.Second, true); w.lasted != 3*time.Second || w.lists != 2 {
		t.Errorf("after 3 s: got %v over %d lists", w.lasted, w.lists)
	}
	if w := look(time.Hour, true); w.lasted != 8*time.Second {
		t.Errorf("a standstill of an hour counts %v, want the 5 s of the longest gap", w.lasted-3*time.Second)
	}
	if w := look(-time.Hour, true); w.lasted != 8*time.Second {
		t.Errorf("a clock that was stepped back counts %v", w.lasted-8*time.Second)
	}
	at = at.Add(time.Minute)
	m.pause("x", lost, at)
	if w := look(time.Second, true); w.lasted != 9*time.Second {
		t.Errorf("a pause counts: got %v, want 9 s", w.lasted)
	}
	if w := look(time.Second, false); w != (watched{}) {
		t.Errorf("what no longer holds starts from zero: got %+v", w)
	}
}

func TestWhatIsNoLongerLookedAtIsForgotten(t *testing.T) {
	r := lasting("x", lost, time.Hour)
	r.memory.leaving["{a}"], r.memory.leaving["{b}"] = leaving{}, leaving{}
	r.memory.forget(map[string]struct{}{"{a}": {}}, now.Add(watchMemory))
	if len(r.memory.watched) != 1 || len(r.memory.leaving) != 1 {
		t.Errorf("got %v, %v, want the condition and the runner that is left", r.memory.watched, r.memory.leaving)
	}
	r.memory.forget(nil, now.Add(watchMemory+1))
	if len(r.memory.watched) != 0 || len(r.memory.leaving) != 0 {
		t.Errorf("got %v, %v, want nothing", r.memory.watched, r.memory.leaving)
	}
}

func TestWhichConditionsHold(t *testing.T) {
	for name, c := range map[string]struct {
		member fleet.Member
		want   map[condition]string // by the UID that it is about
	}{
		"idle":                      {one("r", fleet.Idle), map[condition]string{reportsIdle: "r-pod"}},
		"busy":                      {one("r", fleet.Busy, does(fleet.ActivityBusy, 0)), nil},
		"disabled and idle":         {one("r", fleet.Draining, disabled), map[condition]string{reportsIdle: "r-pod", idleOff: "{r}"}},
		"disabled, seen by no list": {one("r", fleet.Draining), map[condition]string{reportsIdle: "r-pod"}},
		"disabled, no sidecar":      {one("r", fleet.Draining, disabled, detached), map[condition]string{silent: "r-job"}},
		"the same, its pod deleted": {one("r", fleet.Draining, disabled, detached, deleting), nil},
		"lost":                      {one("r", fleet.Lost, does(fleet.ActivityUnknown, 0)), map[condition]string{lost: "{r}"}},
		"forgotten":                 {one("r", fleet.Lost, noRunner), map[condition]string{forgotten: "r-pod", reportsIdle: "r-pod"}},
		"it does not ask":           {one("r", fleet.Pending, noRunner, does(fleet.ActivityUnknown, 0)), map[condition]string{stuck: "r-job"}},
		"it has no node yet":        {one("r", fleet.Pending, noRunner, unscheduled, does(fleet.ActivityUnknown, 0)), nil},
		"it asked of late":          {one("r", fleet.Pending, noRunner, asked(asksEvery-1), does(fleet.ActivityUnknown, 0)), nil},
		"it asked long ago":         {one("r", fleet.Pending, noRunner, asked(asksEvery), does(fleet.ActivityUnknown, 0)), map[condition]string{stuck: "r-job"}},
		"it does not ask, outdated": {one("r", fleet.Pending, noRunner, outdated, does(fleet.ActivityUnknown, 0)), nil},
		"its pod stays":             {one("r", fleet.Gone, does(fleet.ActivityEnded, 0)), map[condition]string{lingering: "r-job"}},
		"its pod is deleted":        {one("r", fleet.Gone, deleting, does(fleet.ActivityEnded, 0)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := knowing()
			r.observe(seen(t, nil, c.member))
			if len(r.memory.watched) != len(c.want) {
				t.Errorf("got %v, want %v", r.memory.watched, c.want)
			}
			for condition, about := range c.want {
				if _, ok := r.memory.watched[watchKey{about, condition}]; !ok {
					t.Errorf("%q does not hold for %s", condition, about)
				}
			}
		})
	}
}

func TestTheStartUpClockStandsStillWhileThePodWaits(t *testing.T) {
	r := lasting("r-job", stuck, time.Minute)
	s := seen(t, nil, one("r", fleet.Pending, noRunner, unscheduled))
	s.now = now.Add(time.Second)
	r.observe(s)
	if w := r.memory.get("r-job", stuck); w.lasted != time.Minute || !w.last.Equal(s.now) {
		t.Errorf("got %+v, want a minute still, looked at now", w)
	}
}

func TestWhichOrphansMayBeRemoved(t *testing.T) {
	runner := func(s bitbucket.Status, step *bitbucket.Step) bitbucket.Runner {
		return bitbucket.Runner{State: bitbucket.RunnerState{Status: s, Step: step}}
	}
	for name, c := range map[string]struct {
		runner bitbucket.Runner
		want   bool
	}{
		"offline":                 {runner(bitbucket.StatusOffline, nil), true},
		"offline with a step":     {runner(bitbucket.StatusOffline, step), true},
		"online":                  {runner(bitbucket.StatusOnline, nil), false},
		"enabled":                 {runner(bitbucket.StatusEnabled, nil), false},
		"disabled":                {runner(bitbucket.StatusDisabled, nil), true},
		"disabled with a step":    {runner(bitbucket.StatusDisabled, step), false},
		"unregistered":            {runner(bitbucket.StatusUnregistered, nil), true},
		"unhealthy":               {runner(bitbucket.StatusUnhealthy, nil), true},
		"unhealthy with a step":   {runner(bitbucket.StatusUnhealthy, step), false},
		"an unknown status, idle": {runner("PAUSED", nil), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := removable(c.runner); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	off := runner(bitbucket.StatusDisabled, nil)
	other := runner(bitbucket.StatusDisabled, &bitbucket.Step{UUID: "{6}"})
	for name, c := range map[string]struct {
		before, after bitbucket.Runner
		want          bool
	}{
		"as before":                {off, off, false},
		"with a step":              {off, runner(bitbucket.StatusDisabled, step), true},
		"with the same step":       {runner(bitbucket.StatusDisabled, step), runner(bitbucket.StatusDisabled, step), false},
		"with another step":        {runner(bitbucket.StatusDisabled, step), other, true},
		"connected, not disabled":  {off, runner(bitbucket.StatusOnline, nil), true},
		"enabled by somebody else": {off, runner(bitbucket.StatusEnabled, nil), true},
	} {
		if got := tookStep(c.before, c.after); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestHowLongARunnerMustHaveBeenWithoutAPod(t *testing.T) {
	r := rules{Limits: Limits{OrphanGrace: time.Minute, LostAfter: time.Hour}}
	p := fleet.Podless{Runner: bitbucket.Runner{State: bitbucket.RunnerState{Status: bitbucket.StatusDisabled}}}
	if got := r.grace(p); got != time.Hour {
		t.Errorf("DISABLED, by lists without steps: got %v, want %v", got, time.Hour)
	}
	p.Listed.ShowsSteps = true
	if got := r.grace(p); got != time.Minute {
		t.Errorf("DISABLED, by lists with steps: got %v, want %v", got, time.Minute)
	}
	p.Runner.State.Status, p.Listed.ShowsSteps = bitbucket.StatusOffline, false
	if got := r.grace(p); got != time.Minute {
		t.Errorf("OFFLINE: got %v, want %v", got, time.Minute)
	}
}
