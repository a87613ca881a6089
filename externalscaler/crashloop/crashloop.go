// Package crashloop knows which groups' Jobs keep failing, why, and until when such a
// group gets no other Job. A Job fails if a container of its pod cannot start, or if its
// runner ends soon after its start without a step and nobody told it to. Other groups
// with the same credentials must not pay for that with their calls to Bitbucket.
//
// Both the number that KEDA receives and the registrar follow it. What it knows is in
// memory only: a process that begins to lead reads it from the failed Jobs that KEDA
// keeps.
package crashloop

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Loops are the groups whose Jobs keep failing. Safe for concurrent use.
type Loops struct {
	clock clock.PassiveClock

	mu     sync.Mutex
	groups map[fleet.GroupKey]*groupState
}

// New returns Loops of which nothing is known yet.
func New(clock clock.PassiveClock) *Loops {
	return &Loops{clock: clock, groups: map[fleet.GroupKey]*groupState{}}
}

// State is what is known of a group whose Jobs keep failing.
type State struct {
	// Failures in a row; 0 if the group's Jobs do not keep failing.
	Failures int
	// On is when the last one failed.
	On time.Time
	// Cause of the last one, and LastLine of its runner's log, as far as known.
	Cause    fleet.Cause
	LastLine string
	// Wait is how long no other Job is wanted.
	Wait time.Duration
	// Tries is how many Jobs the group may have beside its unfinished ones.
	Tries int
}

// Loops reports whether the group's Jobs keep failing.
func (s State) Loops() bool { return s.Failures > 0 }

// String says what happens and why.
func (s State) String() string {
	why := s.Cause.String()
	if s.LastLine != "" {
		why = fmt.Sprintf("%s, last line of its log: %q", cmp.Or(why, "the runner ended"), s.LastLine)
	}
	return fmt.Sprintf("the last %d Jobs of the group failed before their runner took a step (%s)", s.Failures, cmp.Or(why, "see the log and the exit code of the container runner"))
}

// WaitError says that the Jobs of a group keep failing, and when to ask again.
type WaitError struct{ State }

func (e *WaitError) Error() string {
	return fmt.Sprintf("%v: the next one waits %v", e.State, e.Wait.Round(time.Second))
}

// State returns what is known of a group, of which this is the newest snapshot.
func (l *Loops) State(group *fleet.GroupSnapshot) State {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(group, now).state(group, now)
}

func (s *groupState) state(group *fleet.GroupSnapshot, now time.Time) State {
	if !s.loops() {
		return State{}
	}
	return State{Failures: s.failures, On: s.last, Cause: s.cause, LastLine: s.line, Wait: s.wait(now), Tries: s.tries(group, now)}
}

// Admit returns a *WaitError if a Job of the group must wait for its runner. Of a group
// that has waited, one Job is let through to try; the others wait for as long again.
func (l *Loops) Admit(group *fleet.GroupSnapshot, job *fleet.Job) error {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(group, now)
	if !s.loops() || job != nil && s.try == job.UID {
		return nil
	}
	if s.wait(now) > 0 {
		return &WaitError{s.state(group, now)}
	}
	s.until = now.Add(delay(s.failures))
	if job != nil {
		s.try = job.UID
	}
	return nil
}

// End is the end of a runner's process that nobody told to end.
type End struct {
	Job *fleet.Job
	// Lived is the time since its runner was first reported online; 0 if it never was.
	Lived    time.Duration
	TookStep bool
	// Cause and LastLine are what its sidecar reports.
	Cause    fleet.Cause
	LastLine string
}

// Ended notes the end of a runner: a failure, unless it took a step or lived for long.
func (l *Loops) Ended(group *fleet.GroupSnapshot, end End) {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(group, now)
	if outdated(end.Job, group) {
		return
	}
	if end.TookStep {
		s.used[end.Job.UID] = struct{}{}
	}
	if end.TookStep || end.Lived >= Age {
		s.worked(end.Job.CreatedOn)
		return
	}
	s.fail(end.Job, now, end.Cause)
	if s.causeOf == end.Job.UID {
		s.line = end.LastLine
	}
}

// of returns the state of a group as of its newest snapshot. The caller holds the lock.
func (l *Loops) of(group *fleet.GroupSnapshot, now time.Time) *groupState {
	s := l.groups[group.GroupKey]
	if s == nil || s.uid != group.UID || s.generation != group.Generation {
		first := s == nil
		l.forget(now)
		s = newGroupState(group)
		l.groups[group.GroupKey] = s
		s.observe(group, now)
		if first && s.failures == allowed && s.inARow(group) {
			// KEDA keeps no more failed Jobs than that: there may have been others.
			s.failures++
			s.until = s.last.Add(delay(s.failures))
		}
		return s
	}
	s.observe(group, now)
	return s
}

// forget drops the groups without recent failures, of which nothing is remembered that a
// snapshot does not show. The caller holds the lock and calls it when it adds a group.
func (l *Loops) forget(now time.Time) {
	for key, s := range l.groups {
		if now.Sub(s.seen) > memory {
			delete(l.groups, key)
		}
	}
}
