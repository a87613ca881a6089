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
// needs.
func (b *build) lockTaken(needed pipelines.Step) bool {
	_, _, taken := b.lockHolder(needed)
	return taken
}

// lockHolder returns the pipeline that may have a lock that a step needs, in words, and the lock:
// it runs a step with it, or has reached one, or nothing is known of it.
func (b *build) lockHolder(needed pipelines.Step) (by string, taken lock, found bool) {
	for _, want := range locks(needed) {
		for _, other := range b.repository.builds {
			if other == b {
				continue
			}
			if !other.defined {
				return other.title() + ", which is not read yet, perhaps", want, true
			}
			for i, definition := range other.definition.Steps {
				for _, has := range locks(definition) {
					if has == want && i < len(other.steps) && (rank(other.steps[i].state()) == 1 || !other.steps[i].waiting.IsZero()) {
						return other.title(), want, true
					}
				}
			}
		}
	}
	return "", lock{}, false
}
