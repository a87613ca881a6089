package simulate

import (
	"slices"
	"time"

	"bitbucket-runner-scaler/externalscaler/policy"
)

// runner is one Job with its runner.
type runner struct {
	group   *group
	number  int
	created time.Time
	// registered is true from the registration on, online while it is connected, and disabled if it
	// takes no new step. gone is true once it was told to end.
	registered, online, disabled, gone bool
	step                               *step // nil if it has none
}

func (r *runner) idle() bool { return r.online && !r.disabled && r.step == nil }

func (r *runner) takesSteps() bool { return r.online && !r.disabled }

// launch creates a Job.
func (w *world) launch(g *group) *runner {
	w.launched++
	r := &runner{group: g, number: w.launched, created: w.now}
	g.runners = append(g.runners, r)
	w.measured.jobs++
	boot := w.Boot.draw(w.random)
	before := time.Duration(float64(boot) * registeredAfter)
	w.after(before, func() { w.register(r, boot-before) })
	return r
}

// registeredAfter is the part of a runner's boot after which it is registered, and registerAgain the
// time until the next try if its scope is full.
const (
	registeredAfter = 0.6
	registerAgain   = 5 * time.Second
)

// register registers a runner, which is online some time later.
func (w *world) register(r *runner, online time.Duration) {
	w.measured.call("register", 1)
	if w.registered(r.group.Group) >= policy.ScopeLimit {
		w.after(registerAgain, func() { w.register(r, online) })
		return
	}
	r.registered = true
	w.driver.changed(r, nil, wasRegistered)
	w.after(online, func() {
		r.online = true
		w.measured.idle++
		w.driver.changed(r, nil, cameOnline)
		w.offer(r)
	})
}

// registered counts the runners in the scope of a group.
func (w *world) registered(in Group) (n int) {
	for _, g := range w.groups {
		if g.Workspace != in.Workspace || g.Repository != in.Repository {
			continue
		}
		for _, r := range g.runners {
			if r.registered {
				n++
			}
		}
	}
	return n
}

// disable has a runner take no new step.
func (w *world) disable(r *runner) {
	if r.disabled {
		return
	}
	if r.idle() {
		w.measured.idle--
	}
	r.disabled = true
}

// remove ends a runner. A step that it has is lost, which no driver should let happen.
func (w *world) remove(r *runner) {
	w.disable(r)
	if s := r.step; s != nil {
		r.step = nil
		w.measured.busy--
		w.measured.killed++
		if s.begunAt.IsZero() {
			s.begunAt = w.now
			w.measured.waiting--
		}
		w.end(s, false)
	}
	r.gone, r.online, r.registered = true, false, false
	w.after(w.Stop, func() {
		r.group.runners = slices.DeleteFunc(r.group.runners, func(other *runner) bool { return other == r })
		w.measured.jobs--
		w.driver.changed(r, nil, isGone)
	})
}
