package fleet

import (
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// State is what a member of a group counts as.
type State int

// The states; package policy says what each counts for.
const (
	// Pending: an unfinished Job without a registered runner.
	Pending State = iota
	// Starting: registered, not yet ONLINE, within StartLimit.
	Starting
	// Idle: online, and a witness says that it has no step.
	Idle
	// Busy: online with a step.
	Busy
	// Unknown: online, and nothing tells whether it has a step.
	Unknown
	// Draining: disabled without a step.
	Draining
	// DrainingBusy: disabled while its step still runs.
	DrainingBusy
	// Replaced: idle, and to end as soon as its successor is online.
	Replaced
	// Lost: OFFLINE or UNHEALTHY too long, or never came online.
	Lost
	// Gone: told to end, or ended: it counts for nothing any more.
	Gone
)

func (s State) String() string {
	return [...]string{"pending", "starting", "idle", "busy", "unknown", "draining", "draining busy", "replaced", "lost", "gone"}[s]
}

// States are all states.
func States() []State {
	return []State{Pending, Starting, Idle, Busy, Unknown, Draining, DrainingBusy, Replaced, Lost, Gone}
}

// Classify returns what a member counts as. The list of its scope was begun at listBegun, and
// stepSeen is true if lists of the scope show steps. serverNow is the time at Bitbucket.
func (c Config) Classify(m *Member, stepSeen bool, listBegun, serverNow time.Time) State {
	report := m.Telemetry
	if !m.StoppingSince.IsZero() || report.Activity == ActivityEnded || report.Activity == ActivityStopping || m.Pod != nil && m.Pod.Finished {
		return Gone
	}
	state := withoutRunner(report, listBegun)
	if m.Runner != nil {
		state = c.withRunner(m, stepSeen, listBegun, serverNow)
	}
	switch {
	case m.Terminating() && state == Pending:
		return Gone // it will register nothing any more
	case m.Terminating() && (state == Busy || state == Unknown || state == DrainingBusy):
		return DrainingBusy
	case m.Terminating():
		return Draining
	case m.replaced != nil && state == Idle:
		return Replaced
	}
	return state
}

func (c Config) withRunner(m *Member, stepSeen bool, listBegun, serverNow time.Time) State {
	report, state := m.Telemetry, m.Runner.State
	if state.Unreadable {
		if report.Attached && report.Activity == ActivityBusy {
			return Busy
		}
		return Unknown
	}
	step := state.Step
	if step != nil && report.LastStep != "" && step.UUID == report.LastStep && listBegun.Before(report.Since) {
		step = nil // the list is from before that step ended
	}
	// A word from before the sidecar fell silent ends with a list begun since.
	spoken := report.Attached || !stepSeen || !listBegun.After(report.DetachedSince)
	busy := step != nil || report.Activity == ActivityBusy && spoken
	// What the sidecar reports by now is newer than the list.
	reportedOnline := report.Attached && (report.Activity == ActivityIdle || report.Activity == ActivityBusy) && listBegun.Before(report.Since)
	// A runner that Bitbucket has cordoned takes no new step, whatever its status. It
	// is no capacity, though nobody here drains it.
	connected := state.Status == bitbucket.StatusOnline || state.Status == bitbucket.StatusEnabled
	takesNone := state.Status == bitbucket.StatusDisabled || state.Cordoned && connected
	switch {
	case takesNone && busy:
		return DrainingBusy
	case takesNone:
		return Draining
	case connected || reportedOnline:
		switch {
		case busy:
			return Busy
		case report.Attached && report.Activity == ActivityIdle,
			stepSeen && state.Status == bitbucket.StatusOnline:
			return Idle
		}
		return Unknown
	case state.Status == bitbucket.StatusUnregistered:
		if created := m.Runner.CreatedOn; !created.IsZero() && serverNow.Sub(created) > c.StartLimit {
			return Lost
		}
		return Starting
	}
	// OFFLINE, UNHEALTHY, or a status that is not known yet.
	if report.Attached && report.Activity == ActivityBusy {
		return Busy // its process says so
	}
	if serverNow.Sub(state.UpdatedOn) > c.LostAfter {
		return Lost
	}
	if busy {
		return Busy
	}
	return Starting
}

// withoutRunner classifies a Job whose runner is in no list: one that was never
// registered, or whose runner vanished while its process may still run.
func withoutRunner(report Telemetry, listBegun time.Time) State {
	switch {
	case report.RunnerUUID == "":
		return Pending
	case report.Activity == ActivityBusy:
		return Busy
	case !listBegun.After(report.Since):
		return Starting
	}
	return Lost
}

// observe counts the members by state.
func observe(members []Member) policy.Observation {
	var o policy.Observation
	for i := range members {
		switch members[i].State {
		case Pending:
			o.Pending++
		case Starting:
			o.Starting++
		case Idle:
			o.Idle++
		case Busy:
			o.Busy++
		case Unknown:
			o.Unknown++
		case Draining:
			o.Draining++
		case DrainingBusy:
			o.DrainingBusy++
		case Replaced:
			o.Outdated++
		case Lost:
			o.Lost++
		case Gone:
		}
	}
	return o
}
