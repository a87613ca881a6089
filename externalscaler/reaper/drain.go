package reaper

import (
	"cmp"
	"slices"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

var drainedWhy = removal{ReasonDrained, "somebody asked for it to be drained"}

// drainWanted reports whether somebody has asked that a member ends.
func drainWanted(m fleet.Member) bool { return m.Job != nil && m.Job.Drain }

// drainAsked disables the runners that somebody has asked to end, the idle ones first, and deletes
// such Jobs that have no runner yet. As many as the group's minimum, and at least one, stay enabled:
// of those that are left, renew has the successors made first.
func (r rules) drainAsked(s sight) []action {
	var leaving, unregistered []fleet.Member
	enabled := 0
	for _, m := range s.members {
		switch {
		case m.State == fleet.Pending && m.Runner == nil && drainWanted(m):
			unregistered = append(unregistered, m)
		case !m.Enabled() || m.Runner == nil:
		case drainWanted(m):
			leaving = append(leaving, m)
			enabled++
		case m.State != fleet.Replaced && online(m, s.now):
			enabled++
		}
	}
	slices.SortStableFunc(leaving, func(a, b fleet.Member) int {
		return cmp.Or(compareBool(a.State != fleet.Idle, b.State != fleet.Idle), cmp.Compare(a.Name, b.Name))
	})
	spare := enabled - max(1, s.group.Spec.Rules.MinRunners())
	return append(actions(disable, leaving[:max(0, min(len(leaving), spare))], drainedWhy), actions(deleteUnregistered, unregistered, drainedWhy)...)
}
