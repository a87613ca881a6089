package pipelines

import (
	"slices"
	"strconv"
	"strings"
)

// Board has the pipelines of all repositories, oldest first.
type Board struct {
	All   []*Pipeline
	ended int // the weight of those that have ended
}

// weight is what a pipeline counts for the limits of memory, also if it has no steps.
func weight(p *Pipeline) int { return max(1, len(p.Steps)+len(p.Earlier)) }

// open is how many steps are open.
func (b *Board) open() int {
	open := -b.ended
	for _, p := range b.All {
		open += weight(p)
	}
	return open
}

// Find returns a pipeline by its UUID or its build number; nil if there is none. Without a
// repository only the UUID counts.
func (b *Board) Find(of Repository, id string) *Pipeline {
	i := slices.IndexFunc(b.All, func(p *Pipeline) bool {
		return (of == nil || p.Repository == of) && strings.EqualFold(p.UUID, id) || of != nil && p.Repository == of && strconv.Itoa(p.Number) == id
	})
	if i < 0 {
		return nil
	}
	return b.All[i]
}

// Step returns a step by its UUID; nil if there is none.
func (b *Board) Step(uuid string) *Step {
	for _, p := range b.All {
		for _, st := range p.Steps {
			if st.UUID == uuid {
				return st
			}
		}
	}
	return nil
}

// complete counts a pipeline that has ended. It forgets the oldest of those if more than keep
// steps of them are kept, and returns them.
func (b *Board) complete(p *Pipeline, keep int) (forgotten []*Pipeline) {
	b.ended += weight(p)
	for b.ended > keep {
		i := slices.IndexFunc(b.All, (*Pipeline).Ended)
		if i < 0 || b.All[i] == p {
			break
		}
		b.ended -= weight(b.All[i])
		forgotten = append(forgotten, b.All[i])
		b.All = slices.Delete(b.All, i, i+1)
	}
	return forgotten
}

// children returns the open pipelines that a step has started.
func (b *Board) children(parent *Step) []*Pipeline {
	var found []*Pipeline
	for _, p := range b.All {
		if p.Parent == parent && !p.Ended() {
			found = append(found, p)
		}
	}
	return found
}

// steps returns the steps of a repository's pipelines that have not ended.
func (b *Board) steps(of Repository) []*Step {
	var found []*Step
	for _, p := range b.All {
		if p.Repository == of && !p.Ended() {
			found = append(found, p.Steps...)
		}
	}
	return found
}

// locked reports whether another step or stage of the repository has a lock of the step.
func (b *Board) locked(st *Step) bool {
	if len(st.Locks) == 0 {
		return false
	}
	for _, other := range b.steps(st.Pipeline.Repository) {
		for _, theirs := range other.Locks {
			for _, ours := range st.Locks {
				same := other == st || theirs.Group >= 0 && other.Pipeline == st.Pipeline && theirs.Group == ours.Group
				if theirs.Name == ours.Name && !same && other.holds(theirs.Group) {
					return true
				}
			}
		}
	}
	return false
}

// holds reports whether a step has its locks, or its stage, if the lock is that of the stage: it
// has it from its first step to its last.
func (st *Step) holds(stage int) bool {
	if st.Outcome == Running || st.Outcome == Queued {
		return true
	}
	if stage < 0 {
		return false
	}
	begun, open := false, false
	for _, i := range st.Pipeline.groups[stage].Steps {
		one := st.Pipeline.Steps[i]
		begun = begun || !one.StartedOn.IsZero()
		open = open || !one.Ended()
	}
	return begun && open
}

// freed returns the oldest halted step of a repository that no lock holds back any more, or nil.
func (b *Board) freed(of Repository) *Step {
	for _, st := range b.steps(of) {
		if st.Outcome == Halted && !b.locked(st) {
			return st
		}
	}
	return nil
}
