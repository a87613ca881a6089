package simulate

import (
	"math"
	"slices"
	"time"

	"bitbucket-runner-scaler/externalscaler/policy"
)

// Incumbent is a model of Atlassian's runners-autoscaler 3.7, by its documentation and its code. At each
// poll it lists the runners of a group and compares busy with online ones. Known faults are part of it:
// runners that start are not counted, so that it can have more than max. In its favour, a runner that it
// disables ends as soon as it is idle.
type Incumbent struct {
	// Interval is runner_api_polling_interval. Its default is 600 seconds; 120 seconds is the least
	// that its documentation recommends.
	Interval time.Duration
}

const (
	// incumbentPause is the time between two runners that it creates or removes
	// (default_sleep_time_runner_setup and default_sleep_time_runner_delete).
	incumbentPause = 5 * time.Second
	// incumbentCoolDown is the age from which it removes runners (runner_cool_down_period).
	incumbentCoolDown = 300 * time.Second
)

func (i Incumbent) start(w *world) driver {
	d := &incumbent{world: w, interval: i.Interval, wanted: make([]int, len(w.groups))}
	w.after(0, d.poll)
	return d
}

type incumbent struct {
	*world
	interval time.Duration
	wanted   []int // by group
}

// poll looks at all groups, one after the other, and then sleeps.
func (d *incumbent) poll() {
	var took time.Duration
	for _, g := range d.groups {
		took += d.look(g, took)
	}
	d.after(took+d.interval, d.poll)
}

// look does for one group what its list of runners asks for, beginning after a delay. It returns how
// long that takes.
func (d *incumbent) look(g *group, delay time.Duration) (took time.Duration) {
	d.measured.call("list runners", 1)
	r := g.Rules
	least, most := max(1, r.MinRunners()), r.MaxRunners()
	var online, idle []*runner
	for _, one := range g.runners {
		if one.takesSteps() {
			online = append(online, one)
			if one.step == nil {
				idle = append(idle, one)
			}
		}
	}
	ratio := 0.0
	if len(online) > 0 {
		ratio = float64(len(online)-len(idle)) / float64(len(online))
	}
	d.wanted[g.place] = len(online)
	switch {
	case len(online) == 0:
		return d.grow(g, least, delay)
	case (ratio > r.ScaleUpThreshold || len(online) < least) && len(online) <= most && d.registered(g.Group) <= policy.ScopeLimit:
		desired := min(int(math.Ceil(float64(len(online))*r.ScaleUpMultiplier-1e-9)), most)
		return d.grow(g, desired-len(online), delay)
	case ratio < r.ScaleDownThreshold && len(idle) > least:
		surplus := len(idle) - max(int(math.Floor(float64(len(idle))*r.ScaleDownMultiplier+1e-9)), least)
		idle = slices.DeleteFunc(idle, func(one *runner) bool { return d.now.Sub(one.created) < incumbentCoolDown })
		return d.shrink(g, idle[:min(len(idle), surplus)], delay)
	}
	return 0
}

// grow creates runners, one after the other. For each it fetches a token, lists again and registers.
func (d *incumbent) grow(g *group, n int, delay time.Duration) time.Duration {
	d.wanted[g.place] += max(0, n)
	for i := range max(0, n) {
		d.after(delay+time.Duration(i)*incumbentPause, func() {
			d.measured.call("list runners", 1)
			d.launch(g)
		})
	}
	return time.Duration(max(0, n)) * incumbentPause
}

// shrink removes runners, one after the other.
func (d *incumbent) shrink(g *group, idle []*runner, delay time.Duration) time.Duration {
	d.wanted[g.place] -= len(idle)
	for i, one := range idle {
		d.after(delay+time.Duration(i)*incumbentPause, func() {
			d.measured.call("disable", 1)
			d.disable(one)
			d.end(one)
		})
	}
	return time.Duration(len(idle)) * incumbentPause
}

func (d *incumbent) desired() (n int) {
	for _, wanted := range d.wanted {
		n += wanted
	}
	return n
}

// end ends a runner that was disabled, once it is idle.
func (d *incumbent) end(r *runner) {
	if r.disabled && !r.gone && r.step == nil {
		d.measured.call("delete runner", 1)
		d.remove(r)
	}
}

func (d *incumbent) changed(r *runner, _ *step, what change) {
	if what == endedStep {
		d.end(r)
	}
}

func (d *incumbent) pipeline(*pipeline) {}
func (d *incumbent) over(*pipeline)     {}
func (d *incumbent) ready(*step) bool   { return true }
func (d *incumbent) settled()           {}
