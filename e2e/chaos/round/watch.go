package round

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/plan"
	"bitbucket-runner-scaler/externalscaler/status"
)

// phantomFor is for how long a step may count as waiting that does not wait at Bitbucket, on the
// round's clock: the scaler confirms each minute that a step still waits, and believes its runners
// for half a minute. The rest is for a machine under load.
const phantomFor = (60 + 30 + 45) * time.Second

// mostBackoff is how long the scaler waits at most, after reads have failed, until it reads again.
const mostBackoff = 5 * time.Minute

// watch compares what the scaler shows of the queue with what waits at Bitbucket.
type watch struct {
	mu sync.Mutex
	// blinded counts the faults in progress that keep the scaler from reading pipelines. It can
	// read, or has been able to, since sighted.
	blinded int
	sighted time.Time
	leader  string // the process that led, and
	led     time.Time
	// phantoms are the steps that count as waiting and do not wait, with the time since when.
	phantoms map[string]time.Time
	// accused are those of which a violation was recorded.
	accused map[string]struct{}
	needs   map[string][]need // by group
}

// need is how many runners a group needed at a moment.
type need struct {
	at      time.Time
	runners int
	unknown bool // the scaler could not see all of the queue
}

func newWatch() *watch {
	return &watch{phantoms: map[string]time.Time{}, accused: map[string]struct{}{}, needs: map[string][]need{}}
}

// blind notes that a fault keeps the scaler from reading pipelines. The caller calls end.
func (r *Round) blind(f plan.Fault) (end func()) {
	if !f.Kind.Blinds() {
		return func() {}
	}
	w := r.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blinded++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.blinded--
		until := time.Now().Add(r.clock.Real(min(f.For+f.Lag, mostBackoff)))
		if until.After(w.sighted) {
			w.sighted = until
		}
	}
}

// watchQueue compares until ctx ends.
func (r *Round) watchQueue(ctx context.Context) {
	for sleep(ctx, lookEvery) {
		one, ok := r.leader(ctx)
		if !ok {
			continue
		}
		one.mu.Lock()
		process := fmt.Sprint(one.pod, one.starts)
		one.mu.Unlock()
		text, err := fetch(ctx, "http://"+one.http+"/status")
		if err != nil {
			continue
		}
		var groups []status.Group
		if json.Unmarshal(text, &groups) != nil {
			continue
		}
		state, err := r.control.State(ctx)
		if err != nil {
			continue
		}
		r.compare(process, groups, state)
	}
}

// compare takes what the scaler shows and, a moment later, what there is.
func (r *Round) compare(process string, groups []status.Group, state emulator.State) {
	w := r.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if process != w.leader {
		w.leader, w.led = process, now
		clear(w.needs)
	}
	steps := make(map[string]emulator.StepInfo, len(state.Steps))
	for _, step := range state.Steps {
		steps[step.UUID] = step
	}
	seen := map[string]struct{}{}
	for _, g := range r.plan.Groups {
		shown := shownOf(groups, r.namespace(g.Namespace), g.Name)
		if !g.ByQueue || shown == nil || shown.Queue == nil {
			continue
		}
		for _, waits := range shown.Queue.Steps {
			step := steps[waits.UUID]
			// While it cannot read, such as after a 429 that has used up its budget, it says so.
			if waits.Expected != nil || step.Outcome == emulator.OutcomeQueued || shown.Queue.Unknown != "" {
				continue
			}
			seen[waits.UUID] = struct{}{}
			r.phantom(g, waits, step, now)
		}
		r.grown(g, shown, state, now)
	}
	for uuid := range w.phantoms {
		if _, still := seen[uuid]; !still {
			delete(w.phantoms, uuid)
		}
	}
}

func shownOf(groups []status.Group, namespace, name string) *status.Group {
	for i, g := range groups {
		if g.Namespace == namespace && g.Name == name && g.Error == "" {
			return &groups[i]
		}
	}
	return nil
}

// phantom takes a step that counts as waiting and does not wait.
func (r *Round) phantom(g plan.Group, shown status.Step, step emulator.StepInfo, now time.Time) {
	w := r.watch
	since, known := w.phantoms[shown.UUID]
	if !known {
		since = now
		w.phantoms[shown.UUID] = since
	}
	since = latest(since, w.led, w.sighted)
	lasted := now.Sub(since) * time.Duration(r.plan.Rate)
	if w.blinded > 0 {
		return
	}
	r.mu.Lock()
	r.record.Phantom = max(r.record.Phantom, lasted)
	r.mu.Unlock()
	if _, already := w.accused[shown.UUID]; lasted > phantomFor && !already {
		w.accused[shown.UUID] = struct{}{}
		r.violate("group %s has been asked to grow for %v for step %s, which does not wait: %s", g.Name, lasted.Round(time.Second), shown.UUID, describe(step))
	}
}

// grown checks that a group is asked for no more runners than its steps needed lately.
func (r *Round) grown(g plan.Group, shown *status.Group, state emulator.State, now time.Time) {
	w := r.watch
	needed := g.Spare() + shown.Runners["unknown"]
	for _, step := range state.Steps {
		if !slices.Contains(step.Labels, r.label(g)) {
			continue
		}
		switch step.Outcome {
		case emulator.OutcomeQueued, emulator.OutcomeRunning:
			needed++
		case emulator.OutcomeWaiting:
			if g.LookAhead > 0 {
				needed++
			}
		}
	}
	window := r.clock.Real(phantomFor + g.CoolDown)
	needs := append(slices.Clone(w.needs[g.Name]), need{now, max(needed, g.Rest()), shown.Queue.Unknown != "" || w.blinded > 0 || now.Before(w.sighted)})
	needs = slices.DeleteFunc(needs, func(n need) bool { return now.Sub(n.at) > window })
	w.needs[g.Name] = needs
	most := slices.MaxFunc(needs, func(a, b need) int { return a.runners - b.runners }).runners
	if now.Sub(w.led) < window || shown.Desired <= most || slices.ContainsFunc(needs, func(n need) bool { return n.unknown }) {
		return
	}
	if _, already := w.accused[g.Name]; !already {
		w.accused[g.Name] = struct{}{}
		r.violate("group %s is asked for %d runners, and needed no more than %d in the last %v: %s", g.Name, shown.Desired, most, phantomFor+g.CoolDown, shown.Note)
	}
}

// haunted returns an error if steps count as waiting that do not wait.
func (r *Round) haunted() error {
	r.watch.mu.Lock()
	defer r.watch.mu.Unlock()
	for uuid := range r.watch.phantoms {
		return fmt.Errorf("step %s counts as waiting, and does not wait", uuid)
	}
	return nil
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}
