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

// holders are the live pipelines of a repository that may have locks, oldest first: those that run
// a step with it, those that have reached one, and those of which nothing is known. They are found
// once for all steps that are looked at, of which each pipeline may have some.
type holders struct {
	running, reached map[lock][]*build
	unread           []*build
}

func holdersAmong(ordered []*build) holders {
	h := holders{running: map[lock][]*build{}, reached: map[lock][]*build{}}
	for _, b := range ordered {
		if !b.defined {
			h.unread = append(h.unread, b)
			continue
		}
		for i := range b.steps {
			into := h.reached
			switch running := rank(b.steps[i].state()) == 1; {
			case running:
				into = h.running
			case b.steps[i].waiting.IsZero():
				continue
			}
			for _, has := range locks(b.definition.Steps[i]) {
				into[has] = append(into[has], b)
			}
		}
	}
	return h
}

// of returns the pipeline that may have a lock that a step of another one needs, in words, and the
// lock. One that runs is named before one that only may.
func (h holders) of(b *build, needed pipelines.Step) (by string, taken lock, found bool) {
	wanted := locks(needed)
	for _, held := range []map[lock][]*build{h.running, h.reached} {
		for _, want := range wanted {
			for _, other := range held[want] {
				if other != b {
					return other.title(), want, true
				}
			}
		}
	}
	for _, want := range wanted {
		for _, other := range h.unread {
			if other != b {
				return other.title() + ", which is not read yet, perhaps", want, true
			}
		}
	}
	return "", lock{}, false
}
