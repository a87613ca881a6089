package reaper

import (
	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Reasons of a removal, for metrics and Events.
const (
	ReasonSurplus     = "Surplus"
	ReasonEphemeral   = "Ephemeral"
	ReasonOutdated    = "Outdated"
	ReasonMaxAge      = "MaxAge"
	ReasonTerminating = "Terminating"
	ReasonLost        = "Lost"
	ReasonForgotten   = "Forgotten"
	ReasonUnwanted    = "Unwanted"
	ReasonStuck       = "Stuck"
	ReasonOrphan      = "Orphan"
	// ReasonDrained: somebody asked for it by the annotation on its Job.
	ReasonDrained = "Drained"
	// ReasonDisabled: disabled by somebody else, or before this process led.
	ReasonDisabled = "Disabled"
	// ReasonUnrecognized: the runner's log lines are not understood; it stays.
	ReasonUnrecognized = "UnrecognizedOutput"
	// ReasonDisableUnsupported: Bitbucket refuses to disable, so nothing is retired.
	ReasonDisableUnsupported = "DisableUnsupported"
	// ReasonScaleDownHeld: the ScaledJob is paused or has other triggers.
	ReasonScaleDownHeld = "ScaleDownHeld"
	// ReasonListsStretched: the scope is listed less often than configured.
	ReasonListsStretched = "ListsStretched"
	// ReasonScopeNotFound: Bitbucket does not know the workspace or repository any more.
	ReasonScopeNotFound = "ScopeNotFound"
	// ReasonWaiting: something keeps a Job from coming to a runner; nothing is ended.
	ReasonWaiting = "JobWaiting"
	// ReasonCrashLoop: the Jobs of a group keep failing, so it gets fewer.
	ReasonCrashLoop = "CrashLoop"
	// ReasonDryRun: what would be done without --dry-run.
	ReasonDryRun = "DryRun"
)

// orderly reports whether what has this reason is as it should be.
func orderly(reason string) bool {
	switch reason {
	case ReasonSurplus, ReasonEphemeral, ReasonOutdated, ReasonMaxAge, ReasonDrained, ReasonTerminating, ReasonDisabled, ReasonDryRun:
		return true
	}
	return false
}

// Removals are the reasons for which runners and Jobs are ended, which Config.Count is called
// with.
func Removals() []string {
	return []string{
		ReasonSurplus, ReasonEphemeral, ReasonOutdated, ReasonMaxAge, ReasonTerminating, ReasonLost, ReasonForgotten, ReasonUnwanted,
		ReasonStuck, ReasonOrphan, ReasonDisabled, ReasonScopeNotFound, ReasonDrained,
	}
}

// removal is why a runner is removed: a reason for metrics and Events, and the
// same in words.
type removal struct{ reason, why string }

// kind is what is to be done about a member.
type kind int

const (
	// disable its runner, which is stopped once it is idle.
	disable kind = iota
	// disableOrStop does so; if Bitbucket cannot disable, the runner is stopped once
	// it has been idle for long enough.
	disableOrStop
	// stop its runner by an order to its sidecar.
	stop
	// confirmGone stops it if a live read shows that Bitbucket does not know it.
	confirmGone
	// confirmGoneDelete deletes its Job in the same case.
	confirmGoneDelete
	// deleteJob deletes its Job, which certainly has no step.
	deleteJob
	// deleteUnregistered deletes its Job, unless it gets a runner meanwhile.
	deleteUnregistered
	// finishUnregistered lets its pod complete when it asks for a runner again, unless
	// it gets one meanwhile.
	finishUnregistered
	// markReplaced has its successor made, unmarkReplaced takes that back.
	markReplaced
	unmarkReplaced
)

// action is one thing to do about one member of a group.
type action struct {
	kind
	member fleet.Member
	removal
}

// actions makes the same action for several members.
func actions(k kind, members []fleet.Member, why removal) []action {
	made := make([]action, 0, len(members))
	for _, m := range members {
		made = append(made, action{k, m, why})
	}
	return made
}

// saysIdle reports whether a member's sidecar is a witness that it has no step.
func saysIdle(m fleet.Member) bool {
	return m.Telemetry.Attached && m.Telemetry.Activity == fleet.ActivityIdle
}

// endedStep reports whether the step that Bitbucket shows is one of which the
// sidecar has reported the end.
func endedStep(m fleet.Member, shown bitbucket.Runner) bool {
	step := shown.State.Step
	return saysIdle(m) && step.UUID != "" && step.UUID == m.Telemetry.LastStep
}

// retirable reports whether a runner that counts as idle can be told to end: by its
// own report it is idle; or its lines are not understood, and so Bitbucket's lists
// say it.
func retirable(m fleet.Member) bool {
	return m.State == fleet.Idle && m.Runner != nil && (saysIdle(m) || m.Telemetry.Attached && m.Telemetry.Unrecognized)
}
