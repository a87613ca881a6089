package policy_test

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/policy"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// rules returns the defaults of a trigger's metadata, without a cool-down.
func rules(change ...func(*policy.Rules)) policy.Rules {
	r := policy.Rules{
		Strategy: policy.PercentageRunnersIdle, Min: 1, Max: 10,
		ScaleUpThreshold: 0.5, ScaleDownThreshold: 0.2, ScaleUpMultiplier: 1.5, ScaleDownMultiplier: 0.5,
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

// The steps are the example in the README of Atlassian's runners-autoscaler.
func TestExampleOfAtlassiansAutoscaler(t *testing.T) {
	r := rules(func(r *policy.Rules) { r.ScaleUpThreshold = 0.8 })
	var window policy.Window
	steps := []struct {
		name    string
		o       policy.Observation
		desired int
		reason  policy.Reason
		surplus int
	}{
		{"the workspace has 0 runners: set up a new 1 online runner", policy.Observation{}, 1, policy.ReasonBelowMin, 0},
		{"1/1 = 1.0 is greater than 0.8: ceil(1 * 1.5) = 2", policy.Observation{Busy: 1}, 2, policy.ReasonScaleUp, 0},
		{"1/2 = 0.5, 0.2 < 0.5 < 0.8: nothing to do", policy.Observation{Busy: 1, Idle: 1}, 2, policy.ReasonHold, 0},
		{"0/2 = 0 is under 0.2: floor(2 * 0.5) = 1, delete 1 idle", policy.Observation{Idle: 2}, 1, policy.ReasonScaleDown, 1},
	}
	for i, step := range steps {
		d := policy.Decide(r, &window, step.o, start.Add(time.Duration(i)*time.Minute))
		if d.Desired != step.desired || d.Effective != step.desired || d.Target != step.desired || d.Reason != step.reason || d.Surplus() != step.surplus {
			t.Errorf("%s: got %+v with surplus %d, want %d by %s with surplus %d", step.name, d, d.Surplus(), step.desired, step.reason, step.surplus)
		}
		if d.Note == "" {
			t.Errorf("%s: no note", step.name)
		}
	}
}

// moment is one decision in a sequence.
type moment struct {
	after                            time.Duration
	o                                policy.Observation
	desired, effective, target, gone int
	reason                           policy.Reason
}

func TestSequencesOfDecisions(t *testing.T) {
	cool := rules(func(r *policy.Rules) { r.CoolDown = 5 * time.Minute })
	sequences := map[string]struct {
		rules   policy.Rules
		moments []moment
	}{
		"cold start creates the minimum once": {cool, []moment{
			{0, policy.Observation{}, 1, 1, 1, 0, policy.ReasonBelowMin},
			{5 * time.Second, policy.Observation{Pending: 1}, 1, 1, 1, 0, policy.ReasonHold},
			{20 * time.Second, policy.Observation{Starting: 1}, 1, 1, 1, 0, policy.ReasonHold},
			{40 * time.Second, policy.Observation{Idle: 1}, 1, 1, 1, 0, policy.ReasonBelowMin},
		}},
		"a burst grows by the multiplier and counts starting runners": {cool, []moment{
			{0, policy.Observation{Busy: 1}, 2, 2, 2, 0, policy.ReasonScaleUp},
			{5 * time.Second, policy.Observation{Busy: 1, Pending: 1}, 2, 2, 2, 0, policy.ReasonScaleUp},
			{30 * time.Second, policy.Observation{Busy: 2}, 3, 3, 3, 0, policy.ReasonScaleUp},
			{60 * time.Second, policy.Observation{Busy: 3}, 5, 5, 5, 0, policy.ReasonScaleUp},
			{90 * time.Second, policy.Observation{Busy: 5}, 8, 8, 8, 0, policy.ReasonScaleUp},
			{120 * time.Second, policy.Observation{Busy: 8}, 10, 10, 10, 0, policy.ReasonAboveMax},
			{150 * time.Second, policy.Observation{Busy: 10}, 10, 10, 10, 0, policy.ReasonAboveMax},
		}},
		"steady load holds": {cool, []moment{
			{0, policy.Observation{Busy: 2, Idle: 4}, 6, 6, 6, 0, policy.ReasonHold},
			{time.Hour, policy.Observation{Busy: 2, Idle: 4}, 6, 6, 6, 0, policy.ReasonHold},
			{2 * time.Hour, policy.Observation{Busy: 3, Idle: 3}, 6, 6, 6, 0, policy.ReasonHold},
		}},
		"each step down waits its own window": {cool, []moment{
			{0, policy.Observation{Busy: 3, Idle: 5}, 8, 8, 8, 0, policy.ReasonHold},
			{time.Minute, policy.Observation{Idle: 8}, 4, 8, 8, 0, policy.ReasonCoolDown},
			{5*time.Minute - time.Second, policy.Observation{Idle: 8}, 4, 8, 8, 0, policy.ReasonCoolDown},
			{5 * time.Minute, policy.Observation{Idle: 8}, 4, 4, 4, 4, policy.ReasonScaleDown},
			{6 * time.Minute, policy.Observation{Idle: 4}, 2, 4, 4, 0, policy.ReasonCoolDown},
			{10*time.Minute - time.Second, policy.Observation{Idle: 4}, 2, 4, 4, 0, policy.ReasonCoolDown},
			{10 * time.Minute, policy.Observation{Idle: 4}, 2, 2, 2, 2, policy.ReasonScaleDown},
			{11 * time.Minute, policy.Observation{Idle: 2}, 1, 2, 2, 0, policy.ReasonCoolDown},
		}},
		"scale-down keeps the busy ones and spares": {rules(func(r *policy.Rules) { r.Spare = 2; r.ScaleDownThreshold = 0.4 }), []moment{
			{0, policy.Observation{Busy: 3, Idle: 7}, 5, 5, 5, 5, policy.ReasonScaleDown},
			{time.Second, policy.Observation{Busy: 3, Idle: 1}, 6, 6, 6, 0, policy.ReasonScaleUp},
			{2 * time.Second, policy.Observation{Busy: 1, Idle: 3}, 3, 3, 3, 1, policy.ReasonSpare},
		}},
		"an ephemeral group keeps one more runner than are busy": {rules(func(r *policy.Rules) { r.Ephemeral = true; r.Spare = 1; r.ScaleUpThreshold = 1 }), []moment{
			{0, policy.Observation{Busy: 1}, 2, 2, 2, 0, policy.ReasonSpare},
			{time.Second, policy.Observation{DrainingBusy: 1, Idle: 1}, 1, 1, 2, 0, policy.ReasonHold},
			{2 * time.Second, policy.Observation{DrainingBusy: 1, Busy: 1}, 2, 2, 3, 0, policy.ReasonSpare},
		}},
		"draining Jobs are added to the target, busy ones count for the ratio": {rules(), []moment{
			{0, policy.Observation{Idle: 2, Busy: 1, Draining: 2, DrainingBusy: 1}, 3, 3, 6, 0, policy.ReasonHold},
			{time.Second, policy.Observation{Idle: 1, DrainingBusy: 3}, 3, 3, 6, 0, policy.ReasonScaleUp},
			{2 * time.Second, policy.Observation{Idle: 1, Busy: 8, Draining: 5}, 10, 10, 10, 0, policy.ReasonAboveMax},
		}},
		"a lost node's runners are replaced": {rules(), []moment{
			{0, policy.Observation{Busy: 2, Idle: 2}, 4, 4, 4, 0, policy.ReasonHold},
			{time.Minute, policy.Observation{Lost: 4}, 1, 1, 5, 0, policy.ReasonBelowMin},
			{2 * time.Minute, policy.Observation{Lost: 4, Starting: 1}, 1, 1, 5, 0, policy.ReasonHold},
		}},
		"a changed ScaledJob's new bounds apply at once": {cool, []moment{
			{0, policy.Observation{Busy: 9}, 10, 10, 10, 0, policy.ReasonAboveMax},
			{time.Second, policy.Observation{Busy: 9, Outdated: 1}, 10, 10, 10, 0, policy.ReasonAboveMax},
		}},
		"a replaced runner has exactly one successor": {rules(func(r *policy.Rules) { r.Min = 2; r.ScaleUpThreshold = 1 }), []moment{
			{0, policy.Observation{Busy: 1, Idle: 1}, 2, 2, 2, 0, policy.ReasonHold},
			{1 * time.Second, policy.Observation{Busy: 1, Outdated: 1}, 2, 2, 3, 0, policy.ReasonHold},
			{2 * time.Second, policy.Observation{Busy: 1, Outdated: 1, Pending: 1, Successors: 1}, 2, 2, 3, 0, policy.ReasonHold},
			{3 * time.Second, policy.Observation{Busy: 1, Outdated: 1, Starting: 1, Successors: 1}, 2, 2, 3, 0, policy.ReasonHold},
			{4 * time.Second, policy.Observation{Busy: 1, Outdated: 1, Idle: 1, Successors: 1}, 2, 2, 3, 0, policy.ReasonHold},
			{5 * time.Second, policy.Observation{Busy: 1, Draining: 1, Idle: 1}, 2, 2, 3, 0, policy.ReasonHold},
			{6 * time.Second, policy.Observation{Busy: 1, Idle: 1}, 2, 2, 2, 0, policy.ReasonHold},
		}},
		"after a restart all runners are unknown and nothing changes": {cool, []moment{
			{0, policy.Observation{Unknown: 6}, 6, 6, 6, 0, policy.ReasonHold},
			{10 * time.Minute, policy.Observation{Unknown: 6}, 6, 6, 6, 0, policy.ReasonHold},
			{11 * time.Minute, policy.Observation{Unknown: 2, Idle: 4}, 6, 6, 6, 0, policy.ReasonHold},
			{12 * time.Minute, policy.Observation{Unknown: 1, Busy: 5}, 9, 9, 9, 0, policy.ReasonScaleUp},
		}},
	}
	for name, s := range sequences {
		t.Run(name, func(t *testing.T) {
			var window policy.Window
			for i, m := range s.moments {
				d := policy.Decide(s.rules, &window, m.o, start.Add(m.after))
				if d.Desired != m.desired || d.Effective != m.effective || d.Target != m.target || d.Reason != m.reason || d.Surplus() != m.gone {
					t.Errorf("moment %d: got desired %d effective %d target %d surplus %d (%s: %s), want %d %d %d %d (%s)",
						i, d.Desired, d.Effective, d.Target, d.Surplus(), d.Reason, d.Note, m.desired, m.effective, m.target, m.gone, m.reason)
				}
			}
		})
	}
}

func TestSingleDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		rules   policy.Rules
		o       policy.Observation
		desired int
		target  int
		reason  policy.Reason
	}{
		"a ratio equal to the threshold holds, above":  {rules(), policy.Observation{Busy: 1, Idle: 1}, 2, 2, policy.ReasonHold},
		"a ratio equal to the threshold holds, below":  {rules(), policy.Observation{Busy: 1, Idle: 4}, 5, 5, policy.ReasonHold},
		"decimals are rounded as by hand, up":          {rules(func(r *policy.Rules) { r.ScaleUpMultiplier = 1.1; r.Max = 20 }), policy.Observation{Busy: 10}, 11, 11, policy.ReasonScaleUp},
		"decimals are rounded as by hand, down":        {rules(func(r *policy.Rules) { r.ScaleDownMultiplier = 0.29 }), policy.Observation{Idle: 100}, 10, 10, policy.ReasonAboveMax},
		"a huge multiplier is bounded":                 {rules(func(r *policy.Rules) { r.ScaleUpMultiplier = 1e300 }), policy.Observation{Busy: 1}, 10, 10, policy.ReasonAboveMax},
		"scale-down keeps the busy ones":               {rules(func(r *policy.Rules) { r.ScaleDownThreshold = 0.45; r.ScaleDownMultiplier = 0.1 }), policy.Observation{Busy: 4, Idle: 6}, 4, 4, policy.ReasonScaleDown},
		"scale-down keeps the unknown ones":            {rules(func(r *policy.Rules) { r.ScaleDownThreshold = 0.45; r.ScaleDownMultiplier = 0.1 }), policy.Observation{Busy: 2, Unknown: 2, Idle: 6}, 4, 4, policy.ReasonScaleDown},
		"scale-up counts starting runners":             {rules(), policy.Observation{Busy: 1, Starting: 4, Pending: 2}, 7, 7, policy.ReasonScaleUp},
		"queued steps":                                 {rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps }), policy.Observation{Busy: 2, Unknown: 1, Queued: 4}, 6, 6, policy.ReasonQueue},
		"no queued steps":                              {rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps; r.Min = 0 }), policy.Observation{Idle: 3}, 0, 0, policy.ReasonQueue},
		"predicted steps count as queued ones":         {rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps }), policy.Observation{Busy: 2, Queued: 1, Predicted: 2}, 5, 5, policy.ReasonQueue},
		"without the whole queue the ratio is a floor": {rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps }), policy.Observation{Busy: 2, QueueUnknown: "throttled"}, 3, 3, policy.ReasonScaleUp},
		"and no more than a floor":                     {rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps }), policy.Observation{Busy: 2, Queued: 5, QueueUnknown: "throttled"}, 7, 7, policy.ReasonQueue},
		"an unread queue keeps what there is":          {rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps }), policy.Observation{Busy: 1, Idle: 3, QueuePending: true}, 4, 4, policy.ReasonHold},
		"an unread queue grows for what is known":      {rules(func(r *policy.Rules) { r.Strategy = policy.QueuedSteps }), policy.Observation{Busy: 1, Queued: 3, QueuePending: true}, 4, 4, policy.ReasonQueue},
		"a fixed count":                                {rules(func(r *policy.Rules) { r.Strategy = policy.Fixed; r.Count = 3 }), policy.Observation{Idle: 7, Draining: 1}, 3, 3, policy.ReasonFixed},
		"a fixed count of zero":                        {rules(func(r *policy.Rules) { r.Strategy = policy.Fixed }), policy.Observation{Idle: 7}, 0, 0, policy.ReasonFixed},
		"at most the room in the scope":                {rules(), policy.Observation{Busy: 4, OtherRegistered: 90, OtherReserved: 5}, 5, 5, policy.ReasonRunnerLimit},
		"a full scope":                                 {rules(), policy.Observation{OtherRegistered: 120}, 0, 0, policy.ReasonRunnerLimit},
		"those that leave are no capacity":             {rules(func(r *policy.Rules) { r.Max = 20 }), policy.Observation{Idle: 1, DrainingBusy: 4}, 4, 8, policy.ReasonScaleUp},
		"the outdated leave as well":                   {rules(), policy.Observation{Busy: 3, Outdated: 1}, 5, 6, policy.ReasonScaleUp},
		"Jobs that keep failing are not replaced":      {rules(func(r *policy.Rules) { r.Min = 5 }), policy.Observation{Pending: 1, Lost: 1, CrashLoop: "they fail"}, 5, 2, policy.ReasonCrashLoop},
		"one of them is tried after the delay":         {rules(func(r *policy.Rules) { r.Min = 5 }), policy.Observation{Idle: 1, CrashLoop: "they fail", Tries: 1}, 5, 2, policy.ReasonCrashLoop},
		"a failing group never shrinks for that":       {rules(func(r *policy.Rules) { r.Min = 5 }), policy.Observation{Idle: 6, CrashLoop: "they fail"}, 5, 5, policy.ReasonBelowMin},
		"no try beyond what is wanted":                 {rules(), policy.Observation{Idle: 1, CrashLoop: "they fail", Tries: 1}, 1, 1, policy.ReasonBelowMin},
		"all dead weight is added to the target":       {rules(), policy.Observation{Idle: 1, Draining: 1, DrainingBusy: 1, Lost: 1, Outdated: 1}, 2, 6, policy.ReasonHold},
	} {
		t.Run(name, func(t *testing.T) {
			d := policy.Decide(c.rules, &policy.Window{}, c.o, start)
			if d.Desired != c.desired || d.Target != c.target || d.Reason != c.reason {
				t.Errorf("got %d target %d (%s: %s), want %d target %d (%s)", d.Desired, d.Target, d.Reason, d.Note, c.desired, c.target, c.reason)
			}
			if d.Observation != c.o || d.Rules != c.rules || !d.Time.Equal(start) {
				t.Errorf("the inputs are not in the decision: %+v", d)
			}
		})
	}
}

func TestCoolDownDoesNotApplyToFixed(t *testing.T) {
	var window policy.Window
	r := rules(func(r *policy.Rules) { r.Strategy = policy.Fixed; r.Count = 5; r.CoolDown = time.Hour })
	policy.Decide(r, &window, policy.Observation{Idle: 5}, start)
	r.Count = 1
	if d := policy.Decide(r, &window, policy.Observation{Idle: 5}, start.Add(time.Second)); d.Effective != 1 || d.Surplus() != 4 {
		t.Errorf("got %d with surplus %d, want 1 and 4", d.Effective, d.Surplus())
	}
}

func TestLoweredMaxAppliesWithinTheWindow(t *testing.T) {
	var window policy.Window
	r := rules(func(r *policy.Rules) { r.CoolDown = time.Hour })
	policy.Decide(r, &window, policy.Observation{Busy: 9}, start)
	r.Max = 4
	if d := policy.Decide(r, &window, policy.Observation{Busy: 9}, start.Add(time.Second)); d.Effective != 4 || d.Target != 4 {
		t.Errorf("got effective %d target %d, want 4", d.Effective, d.Target)
	}
}

func TestNewWindowBeginsWithTheCapacity(t *testing.T) {
	var window policy.Window
	r := rules(func(r *policy.Rules) { r.CoolDown = time.Minute })
	d := policy.Decide(r, &window, policy.Observation{Idle: 6, Starting: 1}, start)
	if d.Desired != 3 || d.Effective != 7 || d.Reason != policy.ReasonCoolDown {
		t.Errorf("got desired %d effective %d (%s), want 3 and 7 held by the window", d.Desired, d.Effective, d.Reason)
	}
	if d := policy.Decide(r, &window, policy.Observation{Idle: 6, Starting: 1}, start.Add(time.Minute)); d.Effective != 3 {
		t.Errorf("after the window: got %d, want 3", d.Effective)
	}
}

func TestWindowExpiresAfterTheClockIsSetBack(t *testing.T) {
	var window policy.Window
	r := rules(func(r *policy.Rules) { r.CoolDown = time.Minute })
	policy.Decide(r, &window, policy.Observation{Busy: 5}, start)
	back := start.Add(-time.Hour)
	if d := policy.Decide(r, &window, policy.Observation{Idle: 1}, back); d.Effective != 8 {
		t.Errorf("clock set back: got %d, want 8 still", d.Effective)
	}
	if d := policy.Decide(r, &window, policy.Observation{Idle: 1}, back.Add(time.Minute)); d.Effective != 1 {
		t.Errorf("one window later: got %d, want 1", d.Effective)
	}
}

func TestSurplusKeepsTheMinimumOnline(t *testing.T) {
	for name, c := range map[string]struct {
		d    policy.Decision
		want int
	}{
		"above the effective":        {policy.Decision{Effective: 2, Rules: policy.Rules{Min: 1}, Observation: policy.Observation{Idle: 3, Busy: 1, Unknown: 1}}, 3},
		"starting ones do not count": {policy.Decision{Effective: 3, Rules: policy.Rules{Min: 1}, Observation: policy.Observation{Idle: 3, Starting: 4}}, 0},
		"the minimum stays":          {policy.Decision{Effective: 0, Rules: policy.Rules{Min: 2}, Observation: policy.Observation{Idle: 5}}, 3},
		"fewer than the minimum":     {policy.Decision{Effective: 0, Rules: policy.Rules{Min: 9}, Observation: policy.Observation{Idle: 5}}, 0},
		"none online":                {policy.Decision{Effective: 4}, 0},
	} {
		if got := c.d.Surplus(); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}
