package reaper

import (
	"maps"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// condition is something that must last before it is acted on.
type condition string

// The conditions, and what each is about.
const (
	reportsIdle condition = "reports idle" // a pod
	idleOff     condition = "idle, off"    // a runner, disabled
	silent      condition = "silent"       // a Job
	lost        condition = "lost"         // a runner
	forgotten   condition = "forgotten"    // a pod
	stuck       condition = "stuck"        // a Job
	lingering   condition = "lingering"    // a Job
	unwanted    condition = "unwanted"     // a Job
	waiting     condition = "waiting"      // a Job
)

// watchKey names a condition of one pod, Job or runner, by its UID or UUID.
type watchKey struct {
	about string
	condition
}

// watched is for how long a condition has held, without a break, in this process's
// own sight.
type watched struct {
	last time.Time
	// lists are how many lists have shown it, the newest begun at list.
	lists int
	list  time.Time
	// lasted leaves out what was not looked at: a standstill of this process, or a
	// clock that was stepped.
	lasted time.Duration
}

// watchMemory bounds the memory of what is no longer asked for.
const watchMemory = 10 * time.Minute

// leaving is a runner that was disabled.
type leaving struct {
	removal
	// neverOnline is true if it had not come online within the start-up limit, which
	// its status, DISABLED, does not show any more.
	neverOnline bool
}

// memory is what the rules remember from one look to the next.
type memory struct {
	// longestGap is the longest time between two looks that counts in full.
	longestGap time.Duration
	watched    map[watchKey]watched
	// leaving are the runners that were disabled, by UUID, and why.
	leaving map[string]leaving
}

func newMemory(longestGap time.Duration) *memory {
	return &memory{longestGap: longestGap, watched: map[watchKey]watched{}, leaving: map[string]leaving{}}
}

// watch notes at now whether a condition holds; once it does not, it starts from
// zero. list is when the list was begun that shows it.
func (m *memory) watch(about string, c condition, holds bool, list, now time.Time) {
	key := watchKey{about, c}
	if !holds {
		delete(m.watched, key)
		return
	}
	w, known := m.watched[key]
	if !known {
		w.last = now
	}
	if list.After(w.list) {
		w.lists++
		w.list = list
	}
	if gap := now.Sub(w.last); gap > 0 {
		w.lasted += min(gap, m.longestGap)
	}
	w.last = now
	m.watched[key] = w
}

// pause keeps what was counted of a condition, without counting on.
func (m *memory) pause(about string, c condition, now time.Time) {
	key := watchKey{about, c}
	if w, known := m.watched[key]; known {
		w.last = now
		m.watched[key] = w
	}
}

// get returns for how long a condition has held; zero if it does not.
func (m *memory) get(about string, c condition) watched { return m.watched[watchKey{about, c}] }

// forget drops what is remembered of runners that are no more, and of conditions
// that are no longer looked at.
func (m *memory) forget(runners map[string]struct{}, now time.Time) {
	maps.DeleteFunc(m.watched, func(_ watchKey, w watched) bool { return now.Sub(w.last) > watchMemory })
	maps.DeleteFunc(m.leaving, func(uuid string, _ leaving) bool { _, ok := runners[uuid]; return !ok })
}

// observe notes which conditions hold for the members of a group or, with a group
// of nil, for pods without one. The rules read afterwards for how long.
func (r rules) observe(s sight) {
	for _, m := range s.members {
		if m.Pod != nil {
			r.memory.watch(m.Pod.UID, reportsIdle, saysIdle(m), m.ListBegun, s.now)
		}
		if m.Runner != nil && m.State == fleet.Draining {
			off := m.IsListed && m.Listed.Runner.State.Status == bitbucket.StatusDisabled
			r.memory.watch(m.Runner.UUID, idleOff, off && r.trustworthy(m), m.ListBegun, s.now)
		}
		if s.group != nil {
			r.observeMember(s, m)
		}
	}
}

// observeMember notes the conditions of a member that still has a group.
func (r rules) observeMember(s sight, m fleet.Member) {
	watch := func(about string, c condition, holds bool) { r.memory.watch(about, c, holds, m.ListBegun, s.now) }
	if m.Runner != nil {
		r.memory.watch(m.Runner.UUID, lost, m.State == fleet.Lost, s.group.ListBegun, s.now)
	}
	if m.Pod != nil {
		r.memory.watch(m.Pod.UID, forgotten, m.State == fleet.Lost && m.Runner == nil && m.Telemetry.RunnerUUID != "", s.group.ListBegun, s.now)
	}
	if m.Job == nil {
		return
	}
	watch(m.Job.UID, waiting, m.State != fleet.Gone && m.Waits().Reason != "")
	watch(m.Job.UID, silent, m.State == fleet.Draining && m.Runner != nil && !m.Telemetry.Attached && !m.Terminating() && r.safeToStop(m, s.now))
	if m.Pod != nil && m.Pod.Finished {
		return
	}
	// The start-up clock stands still while the pod waits for a node or for us, and
	// while the scope cannot be read: then there is no look at all.
	if startsInTime(m, s.now) {
		r.memory.pause(m.Job.UID, stuck, s.now)
	} else {
		watch(m.Job.UID, stuck, m.State == fleet.Pending && !m.Outdated)
	}
	watch(m.Job.UID, lingering, m.State == fleet.Gone && !m.Terminating())
}

// startsInTime reports whether a Job without a runner waits for a node or for us: then
// it is not stuck.
func startsInTime(m fleet.Member, now time.Time) bool {
	waits := m.Pod != nil && (m.Pod.Node == "" || !m.AskedLast.IsZero() && now.Sub(m.AskedLast) < asksEvery)
	return waits && m.State == fleet.Pending && !m.Outdated
}

// observeUnwanted notes which Jobs without a runner are beyond what is wanted.
func (r rules) observeUnwanted(s sight, d policy.Decision) {
	pending, excess := pendingJobs(s.group, d)
	for i, m := range pending {
		r.memory.watch(m.Job.UID, unwanted, i < excess, s.group.ListBegun, s.now)
	}
}
