package fleet

import (
	"errors"
	"fmt"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
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

// Member is one Job of a group with its runner, or, without Kubernetes, one
// runner, or a pod that no group is left for.
type Member struct {
	// Job is nil without Kubernetes, and where it was deleted.
	Job *Job
	// Pod is nil where the Job has none yet.
	Pod *Pod
	// Name is the runner's name; empty for a Job without a pod.
	Name string
	// Scope is where the runner is, or will be, registered.
	Scope *Scope
	// Runner is what Bitbucket says; nil where none is registered.
	Runner *bitbucket.Runner
	// Telemetry is what the sidecar says.
	Telemetry Telemetry
	State     State
	// Outdated is true where the Job was made of an older form of its ScaledJob, or
	// its runner has another scope or other labels.
	Outdated bool
	// Used is true once the runner was seen with a step.
	Used bool
	// IdleSince is when the runner was first seen idle, without a break since.
	IdleSince time.Time
	// ToldSince is when the pod was told to end; zero if it was not.
	ToldSince time.Time
	// AskedLast is when the pod last asked for its registration.
	AskedLast time.Time
	// Age of the runner's registration by Bitbucket's clock; 0 without a runner.
	Age time.Duration

	// replaced are the Jobs that the group had when the runner's replacement began;
	// nil if it has not.
	replaced map[string]struct{}
}

// Terminating reports whether the pod is to end.
func (m Member) Terminating() bool {
	return m.Telemetry.Terminating || m.Pod != nil && m.Pod.Deleting
}

// Enabled reports whether the runner is ONLINE and takes steps.
func (m Member) Enabled() bool {
	switch m.State {
	case Idle, Busy, Unknown, Replaced:
		return true
	}
	return false
}

// Group is an immutable snapshot of one runner group.
type Group struct {
	GroupKey
	UID string
	// Metadata of the trigger as it is in the ScaledJob.
	Metadata map[string]string
	// Generation of the ScaledJob.
	Generation string
	Spec       runnergroup.Group
	// Scope is where its runners live.
	Scope *Scope
	// Hold says why the group must not be scaled down, empty if nothing does.
	Hold        string
	Members     []Member
	Observation policy.Observation
	// ListBegun is when the list that this rests on was begun: its age.
	ListBegun time.Time
}

// Errors that tell a caller why a group has no snapshot. A fault of the
// metadata is a *runnergroup.InvalidError.
var (
	// ErrUnknownGroup: no ScaledJob of that name and metadata.
	ErrUnknownGroup = errors.New("no such runner group")
	// ErrTooManyScopes: more scopes asked for than are served without Kubernetes.
	ErrTooManyScopes = errors.New("too many scopes")
)

// DuplicateError says that two ScaledJobs claim the same runners.
type DuplicateError struct{ Other GroupKey }

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("labels: the same scope and labels as the older ScaledJob %s, want a set of their own", e.Other)
}

// classify tells what a member counts as. serverNow is the time at Bitbucket.
func (c Config) classify(m *Member, stepSeen bool, listBegun, serverNow time.Time) State {
	report := m.Telemetry
	if !m.ToldSince.IsZero() || report.Activity == ActivityEnded || report.Activity == ActivityStopping || m.Pod != nil && m.Pod.Finished {
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
	step := state.Step
	if step != nil && report.LastStep != "" && step.UUID == report.LastStep && listBegun.Before(report.Since) {
		step = nil // the list is from before that step ended
	}
	// A word from before the sidecar fell silent ends with a list begun since.
	spoken := report.Attached || !stepSeen || !listBegun.After(report.DetachedSince)
	busy := step != nil || report.Activity == ActivityBusy && spoken
	// What the sidecar reports by now is newer than the list.
	reportedOnline := report.Attached && (report.Activity == ActivityIdle || report.Activity == ActivityBusy) && listBegun.Before(report.Since)
	switch {
	case state.Status == bitbucket.StatusDisabled && busy:
		return DrainingBusy
	case state.Status == bitbucket.StatusDisabled:
		return Draining
	case state.Status == bitbucket.StatusOnline || state.Status == bitbucket.StatusEnabled || reportedOnline:
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
	for _, m := range members {
		switch m.State {
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
