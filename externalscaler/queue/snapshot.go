package queue

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// Step is a step that waits for a runner, or will.
type Step struct {
	StepID
	// Scope has the UUIDs of the repository's workspace and of the repository.
	Scope bitbucket.Scope
	// In is the repository's slug, or its UUID if the slug is not known.
	In    string
	Build int
	Name  string
	// Labels that a runner must have.
	Labels pipelines.Labels
	// Since is when it was found to wait. It is zero for a step that will wait: at Expected, if
	// the steps before it take as long as usual. After Until that was wrong.
	Since, Expected, Until time.Time
	// After are the labels of the running steps, by UUID, whose end it waits for.
	After map[string]pipelines.Labels
	// Reported is true if it waits by what a runner has reported, and Bitbucket has not been
	// asked since.
	Reported bool
	// Begun is true if Bitbucket has shown it as running since Since. A runner reports it a
	// little later.
	Begun bool
}

// View is what can be seen of one repository or, if it has no UUID, of a workspace.
type View struct {
	Credentials string
	Scope       bitbucket.Scope
	// In is the name for people.
	In string
	// Found is true if no group names the repository. Named is the slug by which groups name one
	// whose UUID is not known yet.
	Found bool
	Named string
	// Pending is true while it is read for the first time. Unknown says why not all is known of
	// it; empty if all is.
	Pending bool
	Unknown string
}

// Snapshot is what is known of all steps that wait. It is immutable.
type Snapshot struct {
	// Steps are those that wait, that soon will, or that have just begun, sorted by repository,
	// build and place in the pipeline.
	Steps []Step
	// Asked are steps of other states that ask for a runner, one per pipeline and labels: steps
	// that have not been reached, and ones that have failed.
	Asked []Step
	Views []View
	// Builds counts the live pipelines that are followed.
	Builds int
}

// publish makes the snapshot. Called locked.
func (q *Queue) publish(now time.Time) {
	next := &Snapshot{}
	lookAhead := false
	for _, g := range q.groups {
		lookAhead = lookAhead || g.ByQueue && g.LookAhead > 0
	}
	for _, name := range slices.Sorted(maps.Keys(q.sets)) {
		set := q.sets[name]
		for _, w := range set.workspaces {
			next.Views = append(next.Views, w.view(set, now))
		}
		for _, n := range set.named {
			if n.uuid == "" {
				next.Views = append(next.Views, n.view(set, now))
			}
		}
		for _, uuid := range slices.Sorted(maps.Keys(set.repositories)) {
			r := set.repositories[uuid]
			next.Views = append(next.Views, r.view(now))
			for _, a := range r.asked {
				if now.Before(a.until) {
					next.Asked = append(next.Asked, a.Step)
				}
			}
			ordered := r.ordered()
			locked := holdersAmong(ordered)
			for _, b := range ordered {
				next.Builds++
				b.follow(now, locked, &q.counts)
				locked.update(b)
				next.Steps = append(next.Steps, b.waitingSteps(now)...)
				next.Asked = append(next.Asked, b.asks()...)
				if lookAhead {
					next.Steps = append(next.Steps, b.expected(locked)...)
				}
			}
		}
	}
	q.current.Store(next)
}

// ordered are the live pipelines, the oldest first.
func (r *repository) ordered() []*build {
	return slices.SortedFunc(maps.Values(r.builds), func(a, b *build) int { return cmp.Or(cmp.Compare(a.Build, b.Build), cmp.Compare(a.UUID, b.UUID)) })
}

func (w *workspace) view(s *set, now time.Time) View {
	v := View{Credentials: s.name, Scope: bitbucket.Scope{Workspace: w.uuid}, In: w.uuid}
	v.Pending, v.Unknown = s.visible(w.since, w.looked, w.err, now, "the workspace's repositories")
	return v
}

func (n *named) view(s *set, now time.Time) View {
	v := View{Credentials: s.name, Scope: bitbucket.Scope{Workspace: n.scope.Workspace}, In: n.scope.Repository, Named: n.scope.Repository}
	v.Pending, v.Unknown = s.visible(n.since, time.Time{}, n.err, now, "repository "+n.scope.Repository)
	return v
}

func (r *repository) view(now time.Time) View {
	v := View{Credentials: r.set.name, Scope: r.scope, In: r.name, Found: !r.own}
	v.Pending, v.Unknown = r.set.visible(r.since, r.listed, r.listErr, now, "the pipelines of "+r.name)
	if !v.Pending && v.Unknown == "" {
		for _, b := range r.ordered() {
			if v.Unknown = b.problem(now); v.Unknown != "" {
				break
			}
		}
	}
	return v
}

// visible says whether something can be seen that has been known since some time, and was last read
// at another.
func (s *set) visible(since, read time.Time, err error, now time.Time, what string) (pending bool, unknown string) {
	switch {
	case s.err != nil:
		return false, s.blocked()
	case err != nil:
		return false, fmt.Sprintf("%s cannot be read: %v", what, err)
	case read.IsZero() && now.Sub(since) < firstReadFor:
		return true, ""
	case read.IsZero():
		return false, what + " have not been read yet"
	}
	return false, ""
}

// problem says why not all is known of a pipeline's steps; empty if all is.
func (b *build) problem(now time.Time) string {
	switch {
	case b.err != nil:
		return fmt.Sprintf("%s cannot be read: %v", b.title(), b.err)
	case !b.defined && now.Sub(b.since) > unreadFor:
		return b.title() + " is not read yet"
	case b.unknown != "":
		return fmt.Sprintf("the steps of %s are not known: %s", b.title(), b.unknown)
	}
	for i, s := range b.definition.Steps {
		if s.Unknown != "" && i < len(b.steps) && rank(b.steps[i].state()) == 0 {
			return fmt.Sprintf("the labels of %q of %s are not known: %s", s.Title(), b.title(), s.Unknown)
		}
	}
	return ""
}

// follow works out which steps wait and whether something else than our runners decides what
// comes next.
func (b *build) follow(now time.Time, locked holders, counts *Counts) {
	if len(b.steps) == 0 {
		b.held = time.Time{}
		return
	}
	states := b.states()
	waits := b.waits(states, locked)
	shown := make([]pipelines.State, len(b.steps))
	for i, s := range b.steps {
		shown[i] = s.shown
	}
	confirmed := b.waits(shown, locked)
	pending, ours, others := false, len(waits) > 0, false // what is missing, and who decides when it comes
	for i := range b.steps {
		s := &b.steps[i]
		waiting := slices.Contains(waits, i)
		b.count(s, waiting, slices.Contains(confirmed, i), now, counts)
		switch rank(states[i]) {
		case 0:
			pending = pending || !waiting && b.definition.Steps[i].NeedsRunner()
			others = others || s.paused
		case 1:
			// Our runners report a step a little after Bitbucket shows it.
			mine := s.ours || b.definition.Steps[i].NeedsRunner() && now.Sub(s.running) < settle
			ours, others = ours || mine, others || !mine
		}
	}
	switch {
	case !pending || ours && !others:
		b.held = time.Time{}
	case b.held.IsZero():
		b.held = now
	}
}

// count keeps since when a step waits, and what became of predictions.
func (b *build) count(s *step, waiting, confirmed bool, now time.Time, counts *Counts) {
	switch {
	case waiting && s.waiting.IsZero():
		s.waiting, s.predicted = now, !confirmed
		if s.predicted {
			counts.Predicted++
		}
	case waiting:
		s.predicted = s.predicted && !confirmed
	case !s.waiting.IsZero():
		if s.predicted && rank(s.state()) == 0 {
			counts.Contradicted++
		}
		if rank(s.state()) == 1 && s.begun.IsZero() {
			s.waited = s.waiting
		}
		s.waiting, s.predicted = time.Time{}, false
	}
}

// waitingSteps are the steps that wait, and those that have just begun.
func (b *build) waitingSteps(now time.Time) []Step {
	var waiting []Step
	for i, s := range b.steps {
		step := b.step(i)
		switch {
		case len(step.Labels) == 0:
		case !s.waiting.IsZero():
			step.Since, step.Reported = s.waiting, s.predicted
			waiting = append(waiting, step)
		case rank(s.shown) == 1 && s.reported.Name == "" && !s.ours && now.Sub(s.running) < settle:
			step.Since, step.Begun = s.running, true
			waiting = append(waiting, step)
		}
	}
	return waiting
}

// asks are steps that ask for a runner and do not wait for it, one for each set of labels: those
// that have not been reached, and those that have failed.
func (b *build) asks() (asks []Step) {
	for i, s := range b.steps {
		labels, state := b.definition.Steps[i].Labels, s.state()
		failed := state.Result == pipelines.ResultFailed || state.Result == pipelines.ResultError
		if len(labels) == 0 || !s.waiting.IsZero() || rank(state) != 0 && !failed || slices.ContainsFunc(asks, func(a Step) bool { return slices.Equal(a.Labels, labels) }) {
			continue
		}
		step := b.step(i)
		step.Since = b.since
		asks = append(asks, step)
	}
	return asks
}

// expected are the steps that follow once the running ones have taken as long as usual.
func (b *build) expected(locked holders) []Step {
	type ending struct {
		place int
		at    time.Time
		usual time.Duration
	}
	var endings []ending
	for i, s := range b.steps {
		if usual := b.repository.set.queue.usual.Of(b.usualKey(i)); rank(s.state()) == 1 && usual > 0 && !s.running.IsZero() {
			endings = append(endings, ending{i, later(s.running, s.begun).Add(usual), usual})
		}
	}
	slices.SortFunc(endings, func(a, b ending) int { return a.at.Compare(b.at) })
	states := b.states()
	var expected []Step
	after := map[string]pipelines.Labels{}
	for _, e := range endings {
		states[e.place] = pipelines.Done()
		after[b.steps[e.place].id] = b.definition.Steps[e.place].Labels
		for _, i := range b.waits(states, locked) {
			known := slices.ContainsFunc(expected, func(s Step) bool { return s.Step == b.steps[i].id })
			if known || !b.steps[i].waiting.IsZero() || len(b.definition.Steps[i].Labels) == 0 {
				continue
			}
			expected = append(expected, b.step(i).ExpectedAt(e.at, e.usual, maps.Clone(after)))
		}
	}
	return expected
}

// ExpectedAt returns the step as one that will wait at some time, when the last step before it has
// taken as long as usual. after are the running steps whose end it waits for.
func (s Step) ExpectedAt(at time.Time, usual time.Duration, after map[string]pipelines.Labels) Step {
	s.Expected, s.Until, s.After = at, at.Add(max(usual/2, settle)), after
	return s
}

func (b *build) step(i int) Step {
	definition := b.definition.Steps[i]
	return Step{
		StepID: StepID{Repository: b.repository.scope.Repository, Pipeline: b.UUID, Step: b.steps[i].id},
		Scope:  b.repository.scope, In: b.repository.name, Build: b.Build, Name: definition.Title(), Labels: definition.Labels,
	}
}
