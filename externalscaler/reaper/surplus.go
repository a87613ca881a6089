package reaper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// onlineSight is how long a runner that no list shows ONLINE yet must have said so
// itself: it says it a moment before Bitbucket knows.
const onlineSight = time.Second

// spend disables the runners of an ephemeral group that took their step, as soon
// as another one can take the next. One enabled runner always stays, so that steps
// wait rather than fail.
func (r *Reaper) spend(ctx context.Context, group *fleet.Group, _ policy.Decision) (acted bool, err error) {
	if !group.Spec.Rules.Ephemeral {
		return false, nil
	}
	var spent []fleet.Member
	fresh := false
	for _, m := range group.Members {
		switch {
		case !m.Enabled() || m.Runner == nil:
		case m.Used:
			spent = append(spent, m)
		case m.State != fleet.Replaced && r.online(m):
			fresh = true
		}
	}
	if !fresh && len(spent) > 0 {
		// The last one: of those with a step the one that began last, which keeps the
		// next step waiting the longest.
		last := slices.MaxFunc(spent, func(a, b fleet.Member) int {
			return cmp.Or(compareBool(a.State == fleet.Busy, b.State == fleet.Busy), a.Telemetry.Since.Compare(b.Telemetry.Since), cmp.Compare(a.Name, b.Name))
		})
		spent = slices.DeleteFunc(spent, func(m fleet.Member) bool { return m.Name == last.Name })
	}
	return r.disableAll(ctx, group, spent, spentWhy)
}

var spentWhy = removal{ReasonEphemeral, "it took its one step"}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// online says whether Bitbucket has seen a runner come ONLINE, for all that is known.
func (r *Reaper) online(m fleet.Member) bool {
	listed, _, ok := m.Scope.Listed(m.Runner.UUID)
	return ok && listed.State.Status == bitbucket.StatusOnline || m.Telemetry.Attached && r.config.Clock.Since(m.Telemetry.Since) >= onlineSight
}

// retire disables a group's surplus; stopDrained ends it once it is idle.
func (r *Reaper) retire(ctx context.Context, group *fleet.Group, decision policy.Decision) (acted bool, err error) {
	if group.Hold != "" {
		r.say(of(group), "ScaleDownHeld", "", group.Hold)
		return false, nil
	}
	return r.disableAll(ctx, group, surplus(group, decision), removal{ReasonSurplus, "surplus"})
}

// surplus picks the runners to retire: the outdated before the others, the longest
// idle first, each older than the cool-down, and
// attached, and so one that can be stopped.
func surplus(group *fleet.Group, decision policy.Decision) []fleet.Member {
	var idle []fleet.Member
	for _, m := range group.Members {
		if m.Age >= group.Spec.Rules.CoolDown && retirable(m) {
			idle = append(idle, m)
		}
	}
	slices.SortStableFunc(idle, func(a, b fleet.Member) int {
		return cmp.Or(compareBool(b.Outdated, a.Outdated), a.IdleSince.Compare(b.IdleSince), cmp.Compare(a.Name, b.Name))
	})
	return idle[:min(len(idle), decision.Surplus())]
}

// disableAll disables members, and reports whether any was.
func (r *Reaper) disableAll(ctx context.Context, group *fleet.Group, members []fleet.Member, why removal) (acted bool, err error) {
	for _, m := range members {
		if r.dry(of(group), m, why) {
			continue
		}
		disabled, err := r.disable(ctx, of(group), m, why)
		acted = acted || disabled
		switch {
		case errors.Is(err, bitbucket.ErrDisableUnsupported) && r.config.UnsafeScaleDown:
			if saysIdle(m) {
				r.stop(of(group), m, removal{why.reason, why.why + ", and Bitbucket cannot disable it"})
			}
		case errors.Is(err, bitbucket.ErrDisableUnsupported):
			r.refused(of(group))
			return acted, nil
		case err != nil:
			return acted, err
		}
	}
	return acted, nil
}

// renew replaces runners that are outdated or too old, one at a time: KEDA is
// told of one more, and the old one is disabled once as many are online without it
// as are wanted. Where max or the scope leaves no room for a successor, it goes
// first.
func (r *Reaper) renew(ctx context.Context, group *fleet.Group, decision policy.Decision) (acted bool, err error) {
	if group.Hold != "" {
		return false, nil // KEDA would make no successor
	}
	var current *fleet.Member
	var candidates []fleet.Member
	unfinished, coming, online := 0, 0, 0
	for i, m := range group.Members {
		switch m.State {
		case fleet.Pending, fleet.Starting:
			coming++
		case fleet.Replaced:
			current = &group.Members[i]
		case fleet.Draining, fleet.DrainingBusy:
			coming++ // what it leaves behind comes first
		case fleet.Idle:
			if reason := aged(group, m); reason.reason != "" && retirable(m) {
				candidates = append(candidates, m)
			}
		}
		if m.State != fleet.Gone {
			unfinished++
		}
		if m.Enabled() && m.State != fleet.Replaced && m.Runner != nil && r.online(m) {
			online++
		}
	}
	if current == nil {
		if len(candidates) == 0 || coming > 0 {
			return false, nil
		}
		slices.SortStableFunc(candidates, func(a, b fleet.Member) int { return cmp.Compare(b.Age, a.Age) })
		first := candidates[0]
		if r.dry(of(group), first, aged(group, first)) {
			return false, nil
		}
		r.config.Fleet.Replace(first.Pod.UID)
		return true, nil
	}
	why := aged(group, *current)
	if why.reason == "" { // its ScaledJob is again as it was
		r.config.Fleet.Retain(current.Pod.UID)
		return true, nil
	}
	room := unfinished < group.Spec.Rules.MaxRunners() && decision.Reason != policy.ReasonRunnerLimit
	last := why.reason == ReasonEphemeral // it stays while no other is online: steps wait rather than fail
	if online < decision.Effective && (room || coming > 0 || last) {
		return false, nil
	}
	return r.disableAll(ctx, group, []fleet.Member{*current}, why)
}

// aged is why an idle runner is to be replaced; zero if it is not.
func aged(group *fleet.Group, m fleet.Member) removal {
	switch age := group.Spec.MaxAge; {
	case m.Used && group.Spec.Rules.Ephemeral:
		return spentWhy
	case m.Outdated:
		return removal{ReasonOutdated, "its ScaledJob was changed since"}
	case age > 0 && m.Age > age:
		return removal{ReasonMaxAge, fmt.Sprintf("it is older than %v", age)}
	}
	return removal{}
}
