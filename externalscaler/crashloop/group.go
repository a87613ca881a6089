package crashloop

import (
	"maps"
	"slices"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// groupState is what is known of one group, of one form of its ScaledJob.
type groupState struct {
	uid, generation string
	// seen is when the group was last asked for.
	seen time.Time
	// failures in a row: since a runner of the group last worked.
	failures int
	// counted are the Jobs whose failure was counted, by UID, and when it was.
	counted map[string]time.Time
	// used are the present Jobs whose runners took a step: their end is no failure.
	used map[string]struct{}
	// newest is when the newest Job that failed was created: an older runner that
	// works shows nothing about Jobs that are created now.
	newest time.Time
	// last is when the last Job failed, until when the next one waits.
	last, until time.Time
	// try is the UID of the Job that was let through last.
	try string
	// cause of the last failure, of the Job of that UID. line is the last line of its
	// runner's log, if its sidecar sent it.
	cause   fleet.Cause
	causeOf string
	line    string
}

func newGroupState(g *fleet.GroupSnapshot) *groupState {
	return &groupState{uid: g.UID, generation: g.Generation, counted: map[string]time.Time{}, used: map[string]struct{}{}}
}

// observe takes what a snapshot shows: Jobs that failed or cannot start, and runners
// that work.
func (s *groupState) observe(g *fleet.GroupSnapshot, now time.Time) {
	s.seen = now
	shown := make(map[string]struct{}, len(g.Members)+len(g.Failed))
	for i := range g.Members {
		if m := &g.Members[i]; m.Job != nil {
			shown[m.Job.UID] = struct{}{}
			s.observeMember(m, now)
		}
	}
	for i := range g.Failed {
		shown[g.Failed[i].UID] = struct{}{}
		if !outdated(&g.Failed[i], g) {
			s.observeFailed(&g.Failed[i], now)
		}
	}
	gone := func(uid string) bool { _, ok := shown[uid]; return !ok }
	maps.DeleteFunc(s.used, func(uid string, _ struct{}) bool { return gone(uid) })
	maps.DeleteFunc(s.counted, func(uid string, at time.Time) bool { return gone(uid) && now.Sub(at) > memory })
	if s.failures > 0 && now.Sub(s.last) > memory {
		s.reset()
	}
}

func (s *groupState) observeMember(m *fleet.Member, now time.Time) {
	if m.Used {
		s.used[m.Job.UID] = struct{}{}
	}
	if m.Runner != nil && (m.Used || stays(m, now)) {
		s.worked(m.Job.CreatedOn)
	}
	if waits := m.Waits(); waits.CannotStart && !m.Outdated && !m.Terminating() {
		s.fail(m.Job, now, waits)
	}
}

// stays reports whether a runner has been online for Age: the time before, in which its
// image may be pulled, does not count.
func stays(m *fleet.Member, now time.Time) bool {
	on := m.State == fleet.Idle || m.State == fleet.Busy
	return on && m.Enabled() && m.Age >= Age && now.Sub(m.Telemetry.OnlineSince) >= Age
}

// outdated reports whether a Job was made of an earlier form of its ScaledJob: its end
// shows nothing about the Jobs that are made now.
func outdated(job *fleet.Job, g *fleet.GroupSnapshot) bool {
	return job.Generation != "" && g.Generation != "" && job.Generation != g.Generation
}

func (s *groupState) observeFailed(job *fleet.Job, now time.Time) {
	failed := job.Failed
	_, used := s.used[job.UID]
	if used || failed.Disrupted || failed.Lived >= Age || now.Sub(failed.On) > memory {
		return
	}
	s.fail(job, failed.On, failed.Cause)
}

// fail counts the failure of a Job, once. A cause that becomes known later is taken.
func (s *groupState) fail(job *fleet.Job, at time.Time, cause fleet.Cause) {
	if s.causeOf == job.UID && cause.Reason != "" {
		s.cause = cause
	}
	if _, counted := s.counted[job.UID]; counted {
		return
	}
	s.counted[job.UID] = at
	s.failures++
	if job.CreatedOn.After(s.newest) {
		s.newest = job.CreatedOn
	}
	if at.Before(s.last) {
		return
	}
	s.last, s.cause, s.causeOf, s.line = at, cause, job.UID, ""
	s.until = at.Add(delay(s.failures))
}

// worked notes that a runner works whose Job was created then.
func (s *groupState) worked(created time.Time) {
	if s.failures > 0 && !created.Before(s.newest) {
		s.reset()
	}
}

// inARow reports whether the failures that are known followed each other, and nothing
// newer contradicts them. The Jobs of a group that fails come at most MaxDelay apart.
func (s *groupState) inARow(g *fleet.GroupSnapshot) bool {
	times := slices.SortedFunc(maps.Values(s.counted), time.Time.Compare)
	if len(times) > 0 && times[len(times)-1].Sub(times[0]) > MaxDelay+Age {
		return false
	}
	return !slices.ContainsFunc(g.Members, func(m fleet.Member) bool { return m.Job != nil && m.Job.CreatedOn.After(s.newest) })
}

// reset forgets the failures in a row, but not which Jobs they were.
func (s *groupState) reset() {
	*s = groupState{uid: s.uid, generation: s.generation, seen: s.seen, counted: s.counted, used: s.used, newest: s.newest}
}

// loops reports whether the group's Jobs keep failing.
func (s *groupState) loops() bool { return s.failures > allowed }

// wait is how long the next Job waits.
func (s *groupState) wait(now time.Time) time.Duration { return max(0, s.until.Sub(now)) }

// tries is how many Jobs the group may get beside those that it has: one, once the delay
// has run out, unless one is on its way to a runner.
func (s *groupState) tries(g *fleet.GroupSnapshot, now time.Time) int {
	starting := func(m fleet.Member) bool {
		return (m.State == fleet.Pending || m.State == fleet.Starting) && !m.Waits().CannotStart
	}
	if s.wait(now) > 0 || slices.ContainsFunc(g.Members, starting) {
		return 0
	}
	return 1
}
