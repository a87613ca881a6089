package policy_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"bitbucket-runner-scaler/externalscaler/policy"
)

func anyRules(t *rapid.T) policy.Rules {
	maximum := rapid.IntRange(1, 100).Draw(t, "max")
	down := rapid.Float64Range(0.01, 0.9).Draw(t, "down")
	return policy.Rules{
		Strategy: rapid.SampledFrom([]policy.Strategy{policy.PercentageRunnersIdle, policy.QueuedSteps, policy.Fixed}).Draw(t, "strategy"),
		Min:      rapid.IntRange(0, maximum).Draw(t, "min"), Max: maximum,
		Spare: rapid.IntRange(0, 5).Draw(t, "spare"), Count: rapid.IntRange(0, 100).Draw(t, "count"),
		ScaleDownThreshold: down, ScaleUpThreshold: rapid.Float64Range(down+0.01, 1).Draw(t, "up"),
		ScaleUpMultiplier: rapid.Float64Range(1.01, 100).Draw(t, "upBy"), ScaleDownMultiplier: rapid.Float64Range(0.01, 0.99).Draw(t, "downBy"),
		CoolDown: time.Duration(rapid.IntRange(0, 600).Draw(t, "coolDown")) * time.Second,
	}
}

func anyObservation(t *rapid.T) policy.Observation {
	n := func(name string) int { return rapid.IntRange(0, 40).Draw(t, name) }
	return policy.Observation{
		Pending: n("pending"), Starting: n("starting"), Idle: n("idle"), Busy: n("busy"), Unknown: n("unknown"),
		Draining: n("draining"), DrainingBusy: n("drainingBusy"), Lost: n("lost"), Outdated: n("outdated"), Successors: n("successors"),
		Queued: n("queued"), Predicted: n("predicted"), QueuePending: rapid.Bool().Draw(t, "pending queue"),
		QueueUnknown:    rapid.SampledFrom([]string{"", "it is throttled"}).Draw(t, "unknown queue"),
		OtherRegistered: rapid.IntRange(0, 120).Draw(t, "others"), OtherReserved: n("unfilled"),
		CrashLoop: rapid.SampledFrom([]string{"", "they fail"}).Draw(t, "crashLoop"), Tries: rapid.IntRange(0, 1).Draw(t, "tries"),
	}
}

func ceiling(r policy.Rules) int {
	if r.Strategy == policy.Fixed {
		return r.Count
	}
	return r.Max
}

func room(o policy.Observation) int {
	return max(0, policy.ScopeLimit-o.OtherRegistered-o.OtherReserved)
}

func TestEveryDecisionKeepsTheBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t)
		var window policy.Window
		now := start
		for range rapid.IntRange(1, 12).Draw(t, "moments") {
			now = now.Add(time.Duration(rapid.IntRange(-60, 600).Draw(t, "later")) * time.Second)
			o := anyObservation(t)
			d := policy.Decide(r, &window, o, now)
			if d.Desired < 0 || d.Desired > ceiling(r) || d.Desired > room(o) || d.Effective > ceiling(r) || d.Effective > room(o) || d.Target > ceiling(r) {
				t.Fatalf("above max %d or room %d: %+v", ceiling(r), room(o), d)
			}
			if r.Strategy != policy.Fixed && d.Desired < min(r.Min, room(o)) {
				t.Fatalf("below min although there is room: %+v", d)
			}
			target := d.Effective // at least
			if o.CrashLoop != "" {
				target = min(target, o.Capacity())
				if d.Target > o.Capacity()+o.Tries+o.DeadWeight() {
					t.Fatalf("more than there is and the tries: %+v", d)
				}
			}
			if d.Effective < d.Desired || d.Target < target {
				t.Fatalf("want desired <= effective <= target: %+v", d)
			}
			if again := policy.Decide(r, &window, o, now); again != d {
				t.Fatalf("the same call twice: %+v, then %+v", d, again)
			}
			if s := d.Surplus(); s < 0 || o.Idle+o.Busy+o.Unknown-s < min(r.Min, o.Idle+o.Busy+o.Unknown) {
				t.Fatalf("surplus %d leaves fewer than the minimum: %+v", s, d)
			}
		}
	})
}

func TestOneMoreBusyRunnerNeverLowersTheDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, o := anyRules(t), anyObservation(t)
		if o.Idle == 0 {
			o.Idle = 1
		}
		busier := o
		busier.Idle--
		busier.Busy++
		before := rapid.Custom(anyObservation).Draw(t, "before")
		decide := func(o policy.Observation) policy.Decision {
			var window policy.Window
			policy.Decide(r, &window, before, start)
			return policy.Decide(r, &window, o, start.Add(time.Minute))
		}
		if less, more := decide(o), decide(busier); more.Desired < less.Desired || more.Effective < less.Effective {
			t.Fatalf("one more busy gives fewer: %+v, then %+v", less, more)
		}
	})
}

func TestEffectiveIsTheHighestWithinTheCoolDown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := policy.Rules{Strategy: policy.QueuedSteps, Max: 100, CoolDown: time.Duration(rapid.IntRange(0, 300).Draw(t, "coolDown")) * time.Second}
		type decided struct {
			at      time.Time
			runners int
		}
		var all []decided
		var window policy.Window
		now := start
		capacity := rapid.IntRange(0, 100).Draw(t, "capacity")
		for range rapid.IntRange(1, 30).Draw(t, "moments") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "later")) * time.Second)
			queued := rapid.IntRange(0, 100).Draw(t, "queued")
			d := policy.Decide(r, &window, policy.Observation{Queued: queued, Idle: capacity}, now)
			if len(all) == 0 {
				all = append(all, decided{now, capacity}) // a window begins with it
			}
			all = append(all, decided{now, queued})
			want := queued
			for _, a := range all {
				if now.Sub(a.at) < r.CoolDown {
					want = max(want, min(a.runners, capacity)) // it keeps what there is, and asks for no more
				}
			}
			if d.Effective != want {
				t.Fatalf("got %d, want the highest in the window: %d", d.Effective, want)
			}
		}
	})
}

func FuzzDecide(f *testing.F) {
	f.Add(1, 10, 0.5, 0.2, 1.5, 0.5, 1, 0)
	f.Fuzz(func(t *testing.T, minimum, maximum int, up, down, upBy, downBy float64, busy, idle int) {
		bound := func(n, most int) int { return max(0, min(n, most)) }
		r := policy.Rules{
			Strategy: policy.PercentageRunnersIdle, Max: max(1, bound(maximum, 100)), ScaleUpThreshold: up, ScaleDownThreshold: down,
			ScaleUpMultiplier: upBy, ScaleDownMultiplier: downBy,
		}
		r.Min = bound(minimum, r.Max)
		o := policy.Observation{Busy: bound(busy, 1000), Idle: bound(idle, 1000)}
		if d := policy.Decide(r, &policy.Window{}, o, start); d.Target < 0 || d.Target > r.Max || d.Desired < r.Min {
			t.Fatalf("out of bounds: %+v", d)
		}
	})
}
