package reaper

import (
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// retirements are the rules about who stays online. Each counts what the one before has changed, so
// a look carries out only the first that finds something to do.
var retirements = []func(rules, sight, policy.Decision) []action{
	func(r rules, s sight, _ policy.Decision) []action { return r.drainAsked(s) },
	func(r rules, s sight, _ policy.Decision) []action { return r.retireUsed(s) },
	rules.retireSurplus,
	rules.renew,
}

// Retirement is what the rules about who stays online want done about a member.
type Retirement struct {
	// Member is the name of the runner.
	Member string
	// Kind is what to do.
	Kind RetirementKind
}

// RetirementKind is what to do about a member.
type RetirementKind int

// The kinds.
const (
	// Disable the runner. It ends once it is idle.
	Disable RetirementKind = iota
	// Replace it: it ends once its successor is online.
	Replace
	// Keep it after all.
	Keep
)

// Retire applies the rules about who stays online to a group, for a simulation of it. It carries
// nothing out.
func Retire(now time.Time, group *fleet.GroupSnapshot, d policy.Decision) []Retirement {
	kinds := map[kind]RetirementKind{disable: Disable, markReplaced: Replace, unmarkReplaced: Keep}
	for _, rule := range retirements {
		due := rule(rules{}, sight{now: now, group: group, members: group.Members}, d)
		if len(due) == 0 {
			continue
		}
		wanted := make([]Retirement, len(due))
		for i, a := range due {
			wanted[i] = Retirement{Member: a.member.Name, Kind: kinds[a.kind]}
		}
		return wanted
	}
	return nil
}
