package reaper

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// rules say what is to be done about the members of a group: pure functions from
// what is seen, what was decided and what is remembered to actions. This is where
// it is decided that a runner with a pod may be ended, and in orphans.go one without;
// the rest of the package carries it out.
type rules struct {
	Limits
	memory *memory
}

// sight is what one look sees: the members of a group, or pods without one.
type sight struct {
	now time.Time
	// group is nil for pods without a group.
	group   *fleet.GroupSnapshot
	members []fleet.Member
}

// asksEvery is how long a sidecar that waits for its registration is at most
// silent (jobfactory/sidecar, the longest delay between two tries).
const asksEvery = 6 * time.Minute

// drainTerminating disables the runners of pods that are to end: by eviction, a
// node's drain, or the deletion of a pod, a Job or a ScaledJob. The preStop hook
// waits until stopDrained ends them.
func (r rules) drainTerminating(s sight) []action {
	var members []fleet.Member
	for _, m := range s.members {
		if m.Terminating() && m.Runner != nil && m.State != fleet.Gone && m.Runner.State.Status != bitbucket.StatusDisabled {
			members = append(members, m)
		}
	}
	return actions(disableOrStop, members, removal{ReasonTerminating, "its pod is deleted"})
}

// idleLongEnough reports whether a runner that Bitbucket cannot disable has been idle
// for so long, by its own report, that a step assigned before would be known.
func (r rules) idleLongEnough(m fleet.Member) bool {
	return m.Pod != nil && r.memory.get(m.Pod.UID, reportsIdle).lasted >= r.StepAssignDelay
}

// stopDrained ends the runners that are disabled, have no step and can get none.
func (r rules) stopDrained(s sight) []action {
	var stopped []action
	for _, m := range s.members {
		if m.State != fleet.Draining || m.Runner == nil || !m.Telemetry.Attached || !r.safeToStop(m, s.now) {
			continue
		}
		why := removal{ReasonDisabled, "it was disabled"}
		if left, known := r.memory.leaving[m.Runner.UUID]; known {
			why = left.removal
		}
		stopped = append(stopped, action{stop, m, why})
	}
	return stopped
}

// safeToStop reports whether a runner can have no step and get none that it has not
// learned of yet: what was read while it was disabled shows no step of it, but
// those of others. If no step is shown at all, its own report and time must do.
func (r rules) safeToStop(m fleet.Member, now time.Time) bool {
	report, listed := m.Telemetry, m.Listed
	switch {
	case !m.IsListed || listed.Runner.State.Status != bitbucket.StatusDisabled:
		return false
	case listed.Runner.State.Step != nil:
		// The runner logs a step's end before it reports it to Bitbucket: a later look
		// shows that it has, or else time must do.
		return endedStep(m, listed.Runner) && now.Sub(report.Since) >= r.StepAssignDelay
	case listed.ShowsSteps && report.Attached && !r.trustworthy(m):
		// Its sidecar may have been restarted a moment ago, and know more soon.
		return now.Sub(report.Since) >= r.StepAssignDelay
	case listed.ShowsSteps:
		return true
	}
	return r.memory.get(m.Runner.UUID, idleOff).lasted >= r.StepAssignDelay && now.Sub(report.Since) >= r.StepAssignDelay
}

// trustworthy reports whether it is known without Bitbucket's lists that a member
// has no step: it reports that it is idle; or it has not come online for so long, by
// its own report and by Bitbucket's until it was disabled.
func (r rules) trustworthy(m fleet.Member) bool {
	report := m.Telemetry
	offline := report.Activity == fleet.ActivityStarting || report.Unrecognized && report.StepsBegun == 0 && report.Activity != fleet.ActivityBusy
	return saysIdle(m) || report.Attached && offline && r.memory.leaving[m.Runner.UUID].neverOnline
}

// endLost disables runners that are OFFLINE or UNHEALTHY too long, or never came
// online, though their pods live; stopDrained and endSilent end them.
func (r rules) endLost(s sight) []action {
	var ended []action
	for _, m := range s.members {
		if m.Runner == nil || m.State != fleet.Lost {
			continue
		}
		if w := r.memory.get(m.Runner.UUID, lost); w.lasted >= r.LostSight && w.lists >= 2 {
			ended = append(ended, action{disableOrStop, m, removal{ReasonLost, because(m, fmt.Sprintf("it has been %s for too long", m.Runner.State.Status))}})
		}
	}
	return ended
}

// because adds to a reason what Kubernetes says about the Job, if it says anything.
func because(m fleet.Member, why string) string {
	if cause := m.Waits(); cause.Reason != "" {
		return why + " (" + cause.String() + ")"
	}
	return why
}

// endSilent deletes the Jobs of drained runners whose sidecars are not attached.
func (r rules) endSilent(s sight) []action {
	var ended []action
	for _, m := range s.members {
		if m.Job != nil && r.memory.get(m.Job.UID, silent).lasted >= r.DetachedLimit {
			ended = append(ended, action{deleteJob, m, removal{ReasonLost, "it is disabled and idle, and its sidecar does not answer"}})
		}
	}
	return ended
}

// endForgotten ends pods whose runner Bitbucket does not know any more: somebody
// deleted it.
func (r rules) endForgotten(s sight) []action {
	var ended []action
	for _, m := range s.members {
		if m.Pod == nil {
			continue
		}
		w, report := r.memory.get(m.Pod.UID, forgotten), m.Telemetry
		why := removal{ReasonForgotten, "Bitbucket does not know it any more"}
		switch {
		case w.lists < 2:
		// Without a registration it can get no step; it may still run its last.
		case report.Attached && report.Activity != fleet.ActivityBusy && report.Activity != fleet.ActivityUnknown:
			ended = append(ended, action{confirmGone, m, why})
		case !report.Attached && w.lasted >= r.StartLimit:
			ended = append(ended, action{confirmGoneDelete, m, why})
		}
	}
	return ended
}

// endStuck deletes Jobs that have not come to a runner within the start-up limit,
// and those that were told to end and have not.
func (r rules) endStuck(s sight) []action {
	var ended []action
	for _, m := range s.members {
		if m.Job == nil || m.Pod != nil && m.Pod.Finished {
			continue
		}
		switch {
		case r.memory.get(m.Job.UID, stuck).lasted >= r.StartLimit && !startsInTime(m, s.now):
			ended = append(ended, action{deleteUnregistered, m, removal{ReasonStuck, because(m, fmt.Sprintf("it has not asked for a runner within %v", r.StartLimit))}})
		case r.memory.get(m.Job.UID, lingering).lasted >= r.StartLimit:
			ended = append(ended, action{deleteJob, m, removal{ReasonStuck, fmt.Sprintf("its runner has ended, its pod has not within %v", r.StartLimit)}})
		}
	}
	return ended
}

// endUnwanted deletes Jobs without a runner that have been beyond what is wanted for
// a whole cool-down, and at least for five looks, the youngest first.
func (r rules) endUnwanted(s sight, d policy.Decision, interval time.Duration) []action {
	pending, excess := pendingJobs(s.group, d)
	coolDown := s.group.Spec.Rules.CoolDown
	why := removal{ReasonUnwanted, fmt.Sprintf("it has no runner yet, and for %v no more than %d were wanted", coolDown, d.Effective)}
	var ended []action
	for _, m := range pending[:excess] {
		if r.memory.get(m.Job.UID, unwanted).lasted >= max(coolDown, 5*interval) {
			k := deleteUnregistered
			if !m.AskedLast.IsZero() {
				k = finishUnregistered // it waits for a slot, and completes in order when asked to
			}
			ended = append(ended, action{k, m, why})
		}
	}
	return ended
}

// pendingJobs are the Jobs without a runner, the youngest first, and how many of
// them are not wanted.
func pendingJobs(g *fleet.GroupSnapshot, d policy.Decision) (pending []fleet.Member, excess int) {
	for _, m := range g.Members {
		if m.State == fleet.Pending && m.Job != nil && m.Runner == nil {
			pending = append(pending, m)
		}
	}
	slices.SortStableFunc(pending, func(a, b fleet.Member) int { return b.Job.CreatedOn.Compare(a.Job.CreatedOn) })
	if g.Hold != "" {
		return pending, 0
	}
	return pending, min(len(pending), max(0, d.Observation.Capacity()-d.Effective))
}

// onlineSight is how long a runner that no list shows ONLINE yet must have said so
// itself: it says so a moment before Bitbucket knows.
const onlineSight = time.Second

// online reports whether Bitbucket has seen a runner come ONLINE, for all that is
// known.
func online(m fleet.Member, now time.Time) bool {
	return m.IsListed && m.Listed.Runner.State.Status == bitbucket.StatusOnline || m.Telemetry.Attached && now.Sub(m.Telemetry.Since) >= onlineSight
}

var usedWhy = removal{ReasonEphemeral, "it took its one step"}

// retireUsed disables the runners of an ephemeral group that took their step, as
// soon as another one can take the next. One enabled runner always stays, so that
// steps wait rather than fail.
func (r rules) retireUsed(s sight) []action {
	if !s.group.Spec.Rules.Ephemeral {
		return nil
	}
	var used []fleet.Member
	fresh := false
	for _, m := range s.members {
		switch {
		case !m.Enabled() || m.Runner == nil:
		case m.Used:
			used = append(used, m)
		case m.State != fleet.Replaced && online(m, s.now):
			fresh = true
		}
	}
	if !fresh && len(used) > 0 {
		// The last one: of those with a step the one that began last, which keeps the
		// next step waiting the longest.
		last := slices.MaxFunc(used, func(a, b fleet.Member) int {
			return cmp.Or(compareBool(a.State == fleet.Busy, b.State == fleet.Busy), a.Telemetry.Since.Compare(b.Telemetry.Since), cmp.Compare(a.Name, b.Name))
		})
		used = slices.DeleteFunc(used, func(m fleet.Member) bool { return m.Name == last.Name })
	}
	return actions(disable, used, usedWhy)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// retireSurplus disables the runners beyond the decision: the outdated before the
// others, the longest idle first, each older than the cool-down and able to be
// stopped.
func (r rules) retireSurplus(s sight, d policy.Decision) []action {
	if s.group.Hold != "" {
		return nil
	}
	var idle []fleet.Member
	for _, m := range s.members {
		if m.Age >= s.group.Spec.Rules.CoolDown && retirable(m) {
			idle = append(idle, m)
		}
	}
	slices.SortStableFunc(idle, func(a, b fleet.Member) int {
		return cmp.Or(compareBool(b.Outdated, a.Outdated), a.IdleSince.Compare(b.IdleSince), cmp.Compare(a.Name, b.Name))
	})
	return actions(disable, idle[:min(len(idle), d.Surplus())], removal{ReasonSurplus, "surplus"})
}
