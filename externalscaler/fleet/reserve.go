package fleet

import (
	"cmp"
	"maps"
	"slices"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// reserve tells each group how many slots of its scope the other groups will take:
// those of their Jobs that have not registered a runner yet, and their share of the
// free slots up to their minimum.
func (b *builder) reserve() {
	// By UUIDs, because several credentials sets may reach one scope.
	groups := map[scope.ID][]*GroupSnapshot{}
	keys := slices.SortedFunc(maps.Keys(b.next.groups), GroupKey.compare) // or the shares would change with each snapshot
	for _, key := range keys {
		group := b.next.groups[key]
		key := group.Scope
		if resolved := group.view.Resolved; resolved.Workspace != "" {
			key = scope.ID{Scope: resolved}
		}
		groups[key] = append(groups[key], group)
	}
	for _, sharing := range groups {
		free := policy.ScopeLimit
		waiting, needs := make([]int, len(sharing)), make([]int, len(sharing))
		for i, group := range sharing {
			free = min(free, policy.ScopeLimit-len(group.view.Runners)) // of several lists, the fullest
			waiting[i] = group.unregistered()
			needs[i] = max(0, group.Spec.Rules.MinRunners()-group.Observation.Capacity())
		}
		for i, reserved := range ReservedByOthers(free, waiting, needs) {
			sharing[i].Observation.OtherReserved = reserved
		}
	}
}

// ReservedByOthers returns, for each of the groups that share a scope, how many of the free slots
// the other groups will take. waiting are the Jobs of each group that will take a slot and have none
// yet, and needs is how many runners it lacks to its minimum.
func ReservedByOthers(free int, waiting, needs []int) []int {
	// No more than what is free is reserved, or Jobs that wait would push out runners
	// that are registered.
	reserved, total := shares(max(0, free), waiting), 0
	for _, n := range reserved {
		free -= n
	}
	for i, share := range shares(max(0, free), needs) {
		reserved[i] += share
		total += reserved[i]
	}
	for i := range reserved {
		reserved[i] = total - reserved[i]
	}
	return reserved
}

// unregistered counts the Jobs that will take a slot of the scope and have none yet.
func (g *GroupSnapshot) unregistered() (n int) {
	for _, m := range g.Members {
		if m.Runner == nil && (m.State == Pending || m.State == Starting) {
			n++
		}
	}
	return n
}

// shares divides free slots among needs, evenly if they do not suffice: nobody gets
// more than it needs, and what one does not need goes to the others.
func shares(free int, needs []int) []int {
	order := make([]int, len(needs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(needs[a], needs[b]) })
	given := make([]int, len(needs))
	for i, of := range order {
		given[of] = min(needs[of], free/(len(order)-i))
		free -= given[of]
	}
	return given
}
