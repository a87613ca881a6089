package queue

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"bitbucket-runner-scaler/bitbucket/builds"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// build is a live pipeline.
type build struct {
	repository *repository
	builds.Pipeline
	// since is when it was first known.
	since time.Time
	// hinted is true if a webhook named it, at hintedAt.
	hinted   bool
	hintedAt time.Time
	told     *rate.Limiter // bounds the reads that deliveries ask for
	// definition is what the file says. It is not known before defined.
	definition pipelines.Pipeline
	defined    bool
	// steps are those that Bitbucket lists, in order, if unknown is empty, and else nil. They are
	// not known before read.
	steps []step
	// unknown says why nothing can be said of the steps.
	unknown string
	read    time.Time // when the last read of the steps was begun
	tried   time.Time // when the last read was begun, whatever came of it
	// soon is when it is to be read again before the next regular read; zero if it is not.
	soon time.Time
	// held is since when something else than our runners holds it back; zero if nothing does.
	held     time.Time
	failures int
	err      error // of the last read
	reading  bool
}

func newBuild(r *repository, p builds.Pipeline, now time.Time) *build {
	b := &build{repository: r, Pipeline: p, since: now, soon: now, told: rate.NewLimiter(rate.Every(confirmInterval), toldAtOnce)}
	if !p.Parsed {
		b.soon = now.Add(hintFloor)
	}
	return b
}

// title names the pipeline for people.
func (b *build) title() string { return fmt.Sprintf("%s build %d", b.repository.name, b.Build) }

// find returns the step of that UUID; nil if there is none.
func (b *build) find(id string) *step {
	for i := range b.steps {
		if b.steps[i].id == id {
			return &b.steps[i]
		}
	}
	return nil
}

// index is a step's place in the pipeline.
func (b *build) index(s *step) int {
	for i := range b.steps {
		if &b.steps[i] == s {
			return i
		}
	}
	return -1
}

// serves reports whether a group's runners can serve a step, so that their reports of it are
// believed.
func (b *build) serves(s *step, group Group) bool {
	labels := b.definition.Steps[b.index(s)].Labels
	return len(labels) > 0 && labels.ServedBy(group.Labels)
}

// begin takes a runner's report that it runs a step.
func (b *build) begin(id string, group Group, now time.Time) {
	s := b.find(id)
	if s == nil || !b.serves(s, group) || rank(s.state()) > 1 {
		return
	}
	if s.surprises() && now.After(b.read) { // else the read knew of it
		b.ask(group, now)
	}
	s.reported, s.at, s.ours = pipelines.State{Name: pipelines.StateInProgress}, now, true
	if s.running.IsZero() {
		s.running = now
	}
	if s.begun.IsZero() {
		s.begun = now
		if since := later(s.waiting, s.waited); !since.IsZero() {
			b.repository.set.queue.config.Waited(group.Namespace, group.Name, max(0, now.Sub(since)))
		}
		s.waited = time.Time{}
	}
}

// ask has the pipeline read soon for the sake of a runner's report, if its group may ask for that.
func (b *build) ask(group Group, now time.Time) {
	at := later(now, b.read.Add(hintFloor))
	if planned := !b.soon.IsZero() && !b.soon.After(at); !planned && b.repository.set.queue.mayAsk(group, now) {
		b.soon = at
	}
}

// passed is the result of a step that was successful, in the words of the runner's log.
const passed = "PASSED"

// end takes a runner's report that a step has ended. After anything but success Bitbucket decides
// what follows, so the step counts as running until it is read.
func (b *build) end(id, result string, group Group, now time.Time) {
	s := b.find(id)
	if s == nil || !b.serves(s, group) || rank(s.state()) == 2 {
		return
	}
	if result != passed {
		s.reported, s.at, s.ours = pipelines.State{Name: pipelines.StateInProgress}, now.Add(-settle), false // the next read decides
		b.ask(group, now)
		return
	}
	if !s.begun.IsZero() {
		b.repository.set.queue.usual.Add(b.usualKey(b.index(s)), now.Sub(s.begun))
	}
	s.reported, s.at, s.ours = pipelines.Done(), now, false
}

// lose notes that no runner reports a step any more that ran.
func (b *build) lose(id string, group Group, now time.Time) {
	if s := b.find(id); s != nil && s.ours {
		s.at, s.ours = now.Add(-settle), false // the next read decides
		b.ask(group, now)
	}
}

// show takes the steps that lists of runners show on a runner. It reports whether that is new.
func (b *build) show(shown map[string]time.Time) (changed bool) {
	if len(shown) == 0 {
		return false
	}
	for i := range b.steps {
		s := &b.steps[i]
		if at, ok := shown[s.id]; ok && rank(s.state()) == 0 && at.After(s.at) && at.After(b.read.Add(-settle)) {
			if s.surprises() && at.After(b.read) {
				b.soon = later(at, b.read.Add(hintFloor))
			}
			s.reported, s.at = pipelines.State{Name: pipelines.StateInProgress}, at
			s.running, changed = at, true
		}
	}
	return changed
}

func (b *build) usualKey(i int) UsualKey {
	return UsualKey{Repository: b.repository.scope.Repository, Selector: b.Selector.String(), Step: b.definition.Steps[i].Title()}
}

// define takes the file's definition.
func (b *build) define(definition pipelines.Pipeline) {
	b.definition, b.defined, b.unknown, b.steps = definition, true, definition.Unknown, nil
}

// take takes the steps that Bitbucket lists. It reports whether all of them have ended.
func (b *build) take(listed []builds.Step, begun, now time.Time) (over bool) {
	b.read, b.failures, b.err = begun, 0, nil
	reported := make([]pipelines.Reported, len(listed))
	for i, s := range listed {
		reported[i] = s.Reported
	}
	_, unknown := b.definition.Align(reported)
	if b.unknown = unknown; unknown != "" {
		b.steps = nil
		return ended(listed)
	}
	known := make(map[string]step, len(b.steps))
	for _, s := range b.steps {
		known[s.id] = s
	}
	b.steps = make([]step, len(listed))
	for i, s := range listed {
		next := known[s.UUID]
		next.id = s.UUID
		next.show(s, begun)
		b.steps[i] = next
		// Of a step on one of our runners, the runner's report counts: Bitbucket's duration has
		// the time until the runner began it.
		if s.Duration > 0 && s.State.Result == pipelines.ResultSuccessful && rank(known[s.UUID].state()) < 2 && next.begun.IsZero() {
			b.repository.set.queue.usual.Add(b.usualKey(i), s.Duration)
		}
	}
	b.gates(now)
	for _, r := range b.repository.set.queue.runs { // what was reported before the steps were known
		if r.Ended.Pipeline == b.UUID {
			if begun.Before(r.at) || r.Result == passed && begun.Before(r.at.Add(settle)) {
				b.end(r.Ended.Step, r.Result, r.group, r.at)
			}
		}
		if s := b.find(r.Running.Step); s != nil && r.Running.Pipeline == b.UUID && (rank(s.shown) == 1 || begun.Before(r.at.Add(settle))) {
			b.begin(r.Running.Step, r.group, r.at)
		}
	}
	return ended(listed)
}

// openedFor is the time to the read that tells an open gate from one that Bitbucket has not shown
// as closed yet.
const openedFor = 5 * time.Second

// gates keeps what is known of the steps that a person starts or that have a condition.
func (b *build) gates(now time.Time) {
	for i := range b.steps {
		s, definition := &b.steps[i], b.definition.Steps[i]
		reached := rank(s.shown) == 0 && (definition.FromHand || definition.Conditional)
		for _, before := range b.definition.Predecessors(i) {
			reached = reached && rank(b.steps[before].shown) == 2
		}
		switch {
		case !reached:
			s.paused, s.unpaused = false, 0
		case s.shown.Stage == "":
			if s.unpaused++; s.unpaused == 1 && !s.paused {
				b.soon = now.Add(openedFor)
			}
		default:
			s.paused, s.unpaused = s.shown.Stage != pipelines.StagePending, 0
		}
	}
}

func ended(steps []builds.Step) bool {
	for _, s := range steps {
		if rank(s.State) < 2 {
			return false
		}
	}
	return len(steps) > 0
}

// hint notes that a delivery names the pipeline. It is read again only if something else than
// our runners decides what comes next.
func (b *build) hint(over bool, now time.Time) {
	done := b.defined && b.unknown == "" && b.idle()
	if over && done {
		b.repository.end(b, now)
		return
	}
	if over || !b.held.IsZero() || b.unknown != "" || !b.defined {
		at := later(now, b.read.Add(hintFloor))
		if !b.soon.IsZero() && !b.soon.After(at) {
			return
		}
		if !b.told.AllowN(now, 1) {
			at = later(now, b.read.Add(confirmInterval))
		}
		b.soon = at
	}
}

// fail notes that a read did not find what it looked for, and has the next one tried after a
// time. After many such reads the next one waits for its turn among the regular ones.
func (b *build) fail(now time.Time, wait time.Duration) {
	if b.failures++; b.failures <= retriesSoon {
		b.soon = now.Add(wait)
	}
}

// missed notes that a list of live pipelines lacks this one.
func (b *build) missed(now time.Time) {
	unreadable := b.err != nil && b.failures > notFoundRetries
	switch {
	case unreadable, b.defined && b.unknown == "" && b.idle():
		b.repository.end(b, now)
	case b.failures == 0:
		b.soon = now
	}
}

// reported is when a runner last reported something that Bitbucket has not shown yet; zero if
// nothing.
func (b *build) reported() (last time.Time) {
	for _, s := range b.steps {
		if s.reported.Name != "" {
			last = later(last, s.at)
		}
	}
	return last
}

// idle reports whether no step of the pipeline can need a runner any more.
func (b *build) idle() bool {
	if !b.defined || b.unknown != "" {
		return false
	}
	for i, definition := range b.definition.Steps {
		if !definition.NeedsRunner() {
			continue
		}
		if i >= len(b.steps) || rank(b.steps[i].state()) < 2 {
			return false
		}
	}
	return true
}

// states are what is believed of all steps.
func (b *build) states() []pipelines.State {
	states := make([]pipelines.State, len(b.steps))
	for i, s := range b.steps {
		states[i] = s.state()
	}
	return states
}

// waits returns the places of the steps that wait for a runner, if the states are these and locked
// may have the repository's locks.
func (b *build) waits(states []pipelines.State, locked holders) []int {
	var waits []int
	for _, ready := range pipelines.Ready(b.definition, states) {
		reached := states[ready.Index].Name == pipelines.StatePending && states[ready.Index].Stage == pipelines.StagePending
		if reached || !locked.taken(b, ready) {
			waits = append(waits, ready.Index)
		}
	}
	return waits
}
