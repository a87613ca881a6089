package reaper

import (
	"cmp"
	"fmt"
	"slices"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// renew replaces runners that are outdated or too old, one at a time: KEDA receives
// one more, and the old one is disabled once as many are online without it as are
// wanted. If max or the scope leaves no room for a successor, the old one goes
// first.
func (r rules) renew(s sight, d policy.Decision) []action {
	if s.group.Hold != "" {
		return nil // KEDA would make no successor
	}
	p := progressOf(s)
	if p.current == nil {
		if len(p.candidates) == 0 || p.coming > 0 {
			return nil
		}
		oldest := slices.MaxFunc(p.candidates, func(a, b fleet.Member) int { return cmp.Compare(a.Age, b.Age) })
		return []action{{markReplaced, oldest, renewalReason(s.group, oldest)}}
	}
	why := renewalReason(s.group, *p.current)
	if why.reason == "" { // its ScaledJob is again as it was
		return []action{{unmarkReplaced, *p.current, why}}
	}
	room := p.unfinished < s.group.Spec.Rules.MaxRunners() && d.Reason != policy.ReasonRunnerLimit
	last := why.reason == ReasonEphemeral // it stays while no other is online: steps wait rather than fail
	if p.online < d.Effective && (room || p.coming > 0 || last) {
		return nil
	}
	return []action{{disable, *p.current, why}}
}

// progress is how far the replacement of a group's runners has come.
type progress struct {
	// current is the runner that is being replaced; nil if none is.
	current *fleet.Member
	// candidates are to be replaced.
	candidates []fleet.Member
	// unfinished Jobs, those whose runners are still coming or leaving, and those
	// whose runners are online to stay.
	unfinished, coming, online int
}

func progressOf(s sight) (p progress) {
	for i, m := range s.members {
		switch m.State {
		case fleet.Pending, fleet.Starting:
			p.coming++
		case fleet.Replaced:
			p.current = &s.members[i]
		case fleet.Draining, fleet.DrainingBusy:
			// What it leaves behind comes first; one that Bitbucket has cordoned may stay.
			if m.Terminating() || m.Runner != nil && m.Runner.State.Status == bitbucket.StatusDisabled {
				p.coming++
			}
		case fleet.Idle:
			if renewalReason(s.group, m).reason != "" && retirable(m) {
				p.candidates = append(p.candidates, m)
			}
		}
		if m.State != fleet.Gone {
			p.unfinished++
		}
		if m.Enabled() && m.State != fleet.Replaced && m.Runner != nil && online(m, s.now) {
			p.online++
		}
	}
	return p
}

// renewalReason is why an idle runner is to be replaced; zero if it is not.
func renewalReason(g *fleet.GroupSnapshot, m fleet.Member) removal {
	switch age := g.Spec.MaxAge; {
	case drainWanted(m):
		return drainedWhy
	case m.Used && g.Spec.Rules.Ephemeral:
		return usedWhy
	case m.Outdated:
		return removal{ReasonOutdated, "its ScaledJob was changed since"}
	case age > 0 && m.Age > age:
		return removal{ReasonMaxAge, fmt.Sprintf("it is older than %v", age)}
	}
	return removal{}
}
