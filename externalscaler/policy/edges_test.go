package policy_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bitbucket-runner-scaler/externalscaler/policy"
)

func TestScaleDownNeverGrowsTheGroup(t *testing.T) {
	// Three disabled runners still have a step. 0.9 of 10 online is 9, but the
	// capacity is 7.
	r := rules(func(r *policy.Rules) {
		r.ScaleDownThreshold, r.ScaleDownMultiplier = 0.4, 0.9
		r.Max = 20
	})
	d := policy.Decide(r, &policy.Window{}, policy.Observation{Idle: 7, DrainingBusy: 3}, start)
	if d.Desired != 7 || d.Reason != policy.ReasonScaleDown {
		t.Errorf("got %d (%s: %s), want 7 by ScaleDown", d.Desired, d.Reason, d.Note)
	}
}

func TestUnknownRunnersNeitherGrowNorShrinkAGroupThatScalesByQueue(t *testing.T) {
	r := rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps })
	for name, c := range map[string]struct {
		unknown, queued, want int
	}{
		"nothing queued":            {6, 0, 6},
		"fewer queued than unknown": {6, 4, 6},
		"more queued than unknown":  {6, 8, 8},
		"none unknown":              {0, 3, 3},
	} {
		o := policy.Observation{Unknown: c.unknown, Queued: c.queued}
		if d := policy.Decide(r, &policy.Window{}, o, start); d.Desired != c.want {
			t.Errorf("%s: got %d (%s), want %d", name, d.Desired, d.Note, c.want)
		}
	}
}

func TestCoolDownAppliesAfterStrategyFixed(t *testing.T) {
	var window policy.Window
	r := rules(func(r *policy.Rules) { r.Count, r.CoolDown = 8, 5*time.Minute })
	policy.Decide(r, &window, policy.Observation{Idle: 1}, start)
	r.Strategy = policy.Fixed
	policy.Decide(r, &window, policy.Observation{Idle: 8}, start.Add(time.Hour))
	r.Strategy = policy.PercentageRunnersIdle
	if d := policy.Decide(r, &window, policy.Observation{Idle: 8}, start.Add(time.Hour+time.Minute)); d.Desired != 4 || d.Effective != 8 || d.Reason != policy.ReasonCoolDown {
		t.Errorf("got desired %d effective %d (%s), want 4 held at 8", d.Desired, d.Effective, d.Reason)
	}
}

func TestWindowBeginsWithAtMostTheRoomInTheScope(t *testing.T) {
	var window policy.Window
	r := rules(func(r *policy.Rules) { r.CoolDown = 5 * time.Minute })
	policy.Decide(r, &window, policy.Observation{Idle: 8, OtherRegistered: 92, OtherReserved: 3}, start)
	if d := policy.Decide(r, &window, policy.Observation{Idle: 8}, start.Add(time.Minute)); d.Effective != 5 {
		t.Errorf("got %d, want 5, the room in the scope", d.Effective)
	}
}

func TestInvalidMultipliersKeepTheBounds(t *testing.T) {
	for name, by := range map[string]float64{"NaN": math.NaN(), "infinite": math.Inf(1), "negative infinity": math.Inf(-1), "huge": math.MaxFloat64} {
		for way, o := range map[string]policy.Observation{"up": {Busy: 2, Idle: 1}, "down": {Idle: 3}} {
			r := rules(func(r *policy.Rules) { r.ScaleUpMultiplier, r.ScaleDownMultiplier = by, by })
			if d := policy.Decide(r, &policy.Window{}, o, start); d.Desired < 1 || d.Desired > 10 || strings.Contains(d.Note, "= -") {
				t.Errorf("%s, %s: got %d (%s)", name, way, d.Desired, d.Note)
			}
		}
	}
}

func TestNotesContainTheNumbers(t *testing.T) {
	queue := rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps })
	paced := rules(func(r *policy.Rules) { r.CoolDown = 5 * time.Minute })
	for name, c := range map[string]struct {
		rules policy.Rules
		o     policy.Observation
		want  string
	}{
		"up":       {rules(), policy.Observation{Busy: 1}, "busy 1 of 1 online is 1.00, above 0.50: ceil(1 × 1.5) = 2"},
		"down":     {rules(), policy.Observation{Idle: 9, Unknown: 1}, "busy 1 of 10 online is 0.10, below 0.20: floor(10 × 0.5) = 5"},
		"hold":     {rules(), policy.Observation{Busy: 1, Idle: 2}, "busy 1 of 3 online is neither above 0.50 nor below 0.20"},
		"unknown":  {rules(), policy.Observation{Unknown: 3}, "busy 0 of 3 online (3 of unknown state) is neither above 0.50 nor below 0.20"},
		"starting": {rules(), policy.Observation{Starting: 2}, "none online, 2 starting"},
		"queue": {queue, policy.Observation{Busy: 3, Queued: 4, Predicted: 1, QueuedFrom: "2 of deploy-app build 812"},
			"3 busy, 4 queued (2 of deploy-app build 812), 1 predicted: 8"},
		"queue unseen": {queue, policy.Observation{Busy: 2, Idle: 1, QueueUnknown: "throttled"},
			"2 busy, 0 queued: 2; busy 2 of 3 online is 0.67, above 0.50: ceil(3 × 1.5) = 5, because not all of the queue can be seen: throttled"},
		"more queued":   {queue, policy.Observation{Busy: 1, Queued: 6, QueueUnknown: "throttled"}, "1 busy, 6 queued: 7; not all of the queue can be seen: throttled"},
		"queue pending": {queue, policy.Observation{Busy: 1, Idle: 3, QueuePending: true}, "1 busy, 0 queued: 1; 4 are kept until the queue is read"},
		"min":           {rules(func(r *policy.Rules) { r.Min = 4 }), policy.Observation{Idle: 1}, "min is 4"},
		"spare":         {rules(func(r *policy.Rules) { r.Spare = 4 }), policy.Observation{Busy: 1}, "1 busy and 4 spare"},
		"max":           {rules(func(r *policy.Rules) { r.Max = 2 }), policy.Observation{Busy: 2}, "busy 2 of 2 online is 1.00, above 0.50: ceil(2 × 1.5) = 3, but max is 2"},
		"full":          {rules(), policy.Observation{Busy: 1, OtherRegistered: 95, OtherReserved: 4}, "busy 1 of 1 online is 1.00, above 0.50: ceil(1 × 1.5) = 2, but of the scope's 100 runners 95 belong to others and 4 are reserved for other groups"},
		"fixed":         {rules(func(r *policy.Rules) { r.Strategy, r.Count = policy.Fixed, 3 }), policy.Observation{}, "count is 3"},
		"cool-down":     {paced, policy.Observation{Idle: 8}, "busy 0 of 8 online is 0.00, below 0.20: floor(8 × 0.5) = 4, but 8 were desired within the last 5m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			got := policy.Decide(c.rules, &policy.Window{}, c.o, start).Note
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecisionsAtTheBounds(t *testing.T) {
	for name, c := range map[string]struct {
		rules  policy.Rules
		o      policy.Observation
		want   int
		reason policy.Reason
	}{
		"exactly max":         {rules(func(r *policy.Rules) { r.Max = 2 }), policy.Observation{Busy: 1}, 2, policy.ReasonScaleUp},
		"exactly the room":    {rules(), policy.Observation{Busy: 1, OtherRegistered: 98}, 2, policy.ReasonScaleUp},
		"exactly the minimum": {rules(func(r *policy.Rules) { r.Min = 2 }), policy.Observation{Busy: 1}, 2, policy.ReasonScaleUp},
		"exactly the spare":   {rules(func(r *policy.Rules) { r.Spare = 1 }), policy.Observation{Busy: 1}, 2, policy.ReasonScaleUp},
		"last of the scope":   {rules(func(r *policy.Rules) { r.Max = 100 }), policy.Observation{Busy: 99}, 100, policy.ReasonAboveMax},
		"fixed without room":  {rules(func(r *policy.Rules) { r.Strategy, r.Count = policy.Fixed, 9 }), policy.Observation{OtherRegistered: 95}, 5, policy.ReasonRunnerLimit},
		"as many as allowed":  {rules(func(r *policy.Rules) { r.Max, r.ScaleUpMultiplier = 100, 90 }), policy.Observation{Busy: 2}, 100, policy.ReasonAboveMax},
		"spare, unknown":      {rules(func(r *policy.Rules) { r.Spare = 2 }), policy.Observation{Busy: 1, Unknown: 3}, 4, policy.ReasonHold},
		"rounded up by hand":  {rules(func(r *policy.Rules) { r.Max, r.ScaleUpMultiplier = 100, 1.1 }), policy.Observation{Busy: 50}, 55, policy.ReasonScaleUp},
		"rounded down too":    {rules(func(r *policy.Rules) { r.Max, r.ScaleDownMultiplier = 100, 0.29 }), policy.Observation{Idle: 100}, 29, policy.ReasonScaleDown},
		"spare atop min":      {rules(func(r *policy.Rules) { r.Min, r.Spare = 3, 3 }), policy.Observation{Idle: 3}, 3, policy.ReasonSpare},
	} {
		if d := policy.Decide(c.rules, &policy.Window{}, c.o, start); d.Desired != c.want || d.Reason != c.reason {
			t.Errorf("%s: got %d (%s: %s), want %d (%s)", name, d.Desired, d.Reason, d.Note, c.want, c.reason)
		}
	}
}

// world simulates how KEDA, the Jobs and the reaper carry decisions out, one tick at a time.
type world struct {
	starting, online, busy int
}

func (w *world) observe() policy.Observation {
	return policy.Observation{Starting: w.starting, Idle: w.online - w.busy, Busy: w.busy}
}

func (w *world) follow(d policy.Decision, load int) {
	w.online, w.starting = w.online+w.starting, 0
	if missing := d.Target - w.online; missing > 0 {
		w.starting = missing
	}
	w.busy = min(load, w.online)
	w.online -= min(d.Surplus(), w.online-w.busy)
}

// A constant load is served eventually. After a load ends, the minimum remains. A
// runner with a step is never surplus.
func TestGroupFollowsItsLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t)
		r.Strategy = policy.PercentageRunnersIdle
		r.Min, r.Spare = max(1, min(r.Min, r.Max)), 0
		load := rapid.IntRange(1, 120).Draw(t, "load")
		var window policy.Window
		var w world
		now := start
		walk := func(load int) policy.Decision {
			var d policy.Decision
			for range 2500 { // over 100 steps down, each after the longest cool-down
				now = now.Add(30 * time.Second)
				d = policy.Decide(r, &window, w.observe(), now)
				w.follow(d, load)
				if w.online+w.starting > r.Max {
					t.Fatalf("%d runners, above max %d", w.online+w.starting, r.Max)
				}
			}
			return d
		}
		if d := walk(load); w.busy < min(load, r.Max) && float64(w.busy)/float64(w.online) > r.ScaleUpThreshold {
			t.Fatalf("under load: %d of %d busy, %+v", w.busy, w.online, d)
		}
		if d := walk(0); w.online != r.Min || w.starting != 0 {
			t.Fatalf("after the load ended: %d online and %d starting, want min %d: %+v", w.online, w.starting, r.Min, d)
		}
	})
}

// A window that kept the number up would have KEDA replace the Jobs of ephemeral runners that have
// had their step.
func TestTheWindowOfAQueueAsksForNoRunnersThatNoStepNeeds(t *testing.T) {
	r := rules(func(r *policy.Rules) { r.Strategy, r.Max, r.CoolDown = policy.QueuedSteps, 20, 5*time.Minute })
	var window policy.Window
	policy.Decide(r, &window, policy.Observation{Idle: 1, Queued: 10}, start)
	d := policy.Decide(r, &window, policy.Observation{Idle: 1, Busy: 3}, start.Add(time.Minute))
	if d.Desired != 3 || d.Effective != 4 || d.Target != 4 {
		t.Errorf("got desired %d, effective %d, target %d (%s), want the 3 busy ones and the one that is there", d.Desired, d.Effective, d.Target, d.Note)
	}
}
