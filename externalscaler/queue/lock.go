package queue

import (
	"strings"

	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// lock is something of which one step at a time can have it, in all pipelines of a repository.
type lock struct{ kind, name string }

// locks are those that a step needs.
func locks(s pipelines.Step) []lock {
	var needed []lock
	if s.Deployment != "" {
		needed = append(needed, lock{"deployment", strings.ToLower(s.Deployment)})
	}
	if s.ConcurrencyGroup != "" {
		needed = append(needed, lock{"concurrency-group", s.ConcurrencyGroup})
	}
	return needed
}

// lockTaken reports whether another live pipeline of the repository may have a lock that a step
// needs: it runs a step with it, or has reached one, or nothing is known of it.
func (b *build) lockTaken(needed pipelines.Step) bool {
	for _, want := range locks(needed) {
		for _, other := range b.repository.builds {
			if other == b {
				continue
			}
			if !other.defined {
				return true
			}
			for i, definition := range other.definition.Steps {
				for _, has := range locks(definition) {
					if has == want && i < len(other.steps) && (rank(other.steps[i].state()) == 1 || !other.steps[i].waiting.IsZero()) {
						return true
					}
				}
			}
		}
	}
	return false
}
