package queue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// Hold is what keeps a step from starting.
type Hold int

// What keeps a step from starting.
const (
	// HeldByNothing: it waits for a runner, runs, or has ended.
	HeldByNothing Hold = iota
	// HeldByOrder: steps before it have not ended.
	HeldByOrder
	// HeldByHand: a person has to start it.
	HeldByHand
	// HeldByLock: another pipeline of the repository has its deployment environment or its
	// concurrency group.
	HeldByLock
	// HeldByCondition: Bitbucket has not decided its condition yet.
	HeldByCondition
	// HeldUnknown: it is not known what it waits for.
	HeldUnknown
)

// Held is what keeps a step from starting, and the words for it.
type Held struct {
	By Hold
	// Why is a clause such as "Build and Test have not ended".
	Why string
}

// LiveStep is one step of a live pipeline.
type LiveStep struct {
	Step
	// Running and Ended say how far it has come: a step that is neither has not begun.
	Running, Ended bool
	// Result of a step that has ended, in Bitbucket's words.
	Result string
	// Ours is true for a step that needs a runner of one's own.
	Ours bool
	Held Held
	// Unknown says why its labels are not known; empty if they are.
	Unknown string
}

// LivePipeline is a pipeline that is followed.
type LivePipeline struct {
	Scope    bitbucket.Scope // by UUIDs
	In       string
	Build    int
	Pipeline string // its UUID
	Selector string
	// Since is when it became known, and Hinted whether a webhook has named it.
	Since  time.Time
	Hinted bool
	// Read is when its steps were last asked for; zero before.
	Read time.Time
	// Unknown says why nothing can be said of its steps; empty if they are known.
	Unknown string
	Steps   []LiveStep
}

// RepositorySight is how a repository is looked at.
type RepositorySight struct {
	Credentials string
	Scope       bitbucket.Scope
	In          string
	// Own is true if a group names it.
	Own bool
	// Hooked is when the last delivery of a webhook came; zero while webhooks are not known to
	// arrive.
	Hooked time.Time
	// Interval between two lists of its pipelines; 0 while deliveries make them needless.
	Interval time.Duration
	// Err is why the last list failed.
	Err error
	// Missed counts the live pipelines that no webhook has named some time after they became
	// known, though one should have.
	Missed int
}

// neverHooked is that time for a repository of which no delivery has ever come. It only warns of
// that: of one whose deliveries do come, missedAfter decides.
const neverHooked = 20 * time.Second

// Look returns the live pipelines, oldest first by repository, and how their repositories are
// looked at. It is computed at the call.
func (q *Queue) Look() (live []LivePipeline, repositories []RepositorySight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.config.Clock.Now()
	for _, name := range slices.Sorted(maps.Keys(q.sets)) {
		set := q.sets[name]
		for _, uuid := range slices.Sorted(maps.Keys(set.repositories)) {
			r := set.repositories[uuid]
			sight := RepositorySight{Credentials: name, Scope: r.scope, In: r.name, Own: r.own, Interval: r.interval(now), Err: r.listErr}
			late := neverHooked
			if !r.hookedSince.IsZero() {
				sight.Hooked, late = r.hookedAt, missedAfter
			}
			ordered := r.ordered()
			locked := holdersAmong(ordered)
			for _, b := range ordered {
				if !b.hinted && now.Sub(b.since) > late {
					sight.Missed++
				}
				live = append(live, b.look(now, locked))
			}
			repositories = append(repositories, sight)
		}
	}
	return live, repositories
}

func (b *build) look(now time.Time, locked holders) LivePipeline {
	shown := LivePipeline{
		Scope: b.repository.scope, In: b.repository.name, Build: b.Build, Pipeline: b.UUID, Selector: b.Selector.String(),
		Since: b.since, Hinted: b.hinted, Read: b.read, Unknown: b.problem(now),
	}
	if len(b.steps) == 0 && shown.Unknown == "" {
		shown.Unknown = b.title() + " is being read"
	}
	states := b.states()
	for i := range b.steps {
		s, definition := &b.steps[i], b.definition.Steps[i]
		live := LiveStep{
			Step: b.step(i), Running: rank(states[i]) == 1, Ended: rank(states[i]) == 2, Ours: definition.NeedsRunner(), Unknown: definition.Unknown,
			Result: states[i].Result,
		}
		live.Since = s.waiting
		if live.Running {
			live.Since = s.running
		}
		if rank(states[i]) == 0 && s.waiting.IsZero() {
			live.Held = b.holds(i, locked)
		}
		shown.Steps = append(shown.Steps, live)
	}
	return shown
}

// mostBefore is how many steps an explanation names.
const mostBefore = 3

// holds says what keeps a step from starting that has not begun and does not wait for a runner.
func (b *build) holds(i int, locked holders) Held {
	definition := b.definition.Steps[i]
	var before []string
	for _, p := range b.definition.Predecessors(i) {
		if rank(b.steps[p].state()) != 2 {
			before = append(before, fmt.Sprintf("%q", b.definition.Steps[p].Title()))
		}
	}
	if more := len(before) - mostBefore; more > 0 {
		before = append(before[:mostBefore], fmt.Sprintf("%d more", more))
	}
	switch {
	case len(before) == 1:
		return Held{HeldByOrder, before[0] + " comes before it and has not ended"}
	case len(before) > 1:
		return Held{HeldByOrder, strings.Join(before, ", ") + " come before it and have not ended"}
	case definition.FromHand:
		return Held{HeldByHand, "a person has to start it at Bitbucket"}
	case definition.Conditional:
		return Held{HeldByCondition, "Bitbucket has not decided its condition"}
	}
	if by, lock, taken := locked.of(b, definition); taken {
		return Held{HeldByLock, fmt.Sprintf("%s has the %s %q", by, lock.kind, lock.name)}
	}
	if shown := b.steps[i].shown; shown.Stage != "" && shown.Stage != pipelines.StagePending {
		return Held{HeldUnknown, fmt.Sprintf("Bitbucket shows it as %s", strings.ToLower(shown.Stage))}
	}
	return Held{HeldUnknown, "Bitbucket has not shown yet that it may start"}
}
