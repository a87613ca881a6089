package queue

import (
	"slices"
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
		if b.defined {
			h.add(b)
			continue
		}
		h.unread = append(h.unread, b)
	}
	return h
}

// add adds a pipeline that is defined.
func (h holders) add(b *build) {
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

// update takes what is believed of a pipeline now. The order of those that may have a lock is lost.
func (h holders) update(b *build) {
	if !b.defined {
		return
	}
	for _, s := range b.definition.Steps {
		for _, l := range locks(s) {
			for _, held := range []map[lock][]*build{h.running, h.reached} {
				held[l] = slices.DeleteFunc(held[l], func(other *build) bool { return other == b })
			}
		}
	}
	h.add(b)
}

// taken reports whether another pipeline than b may have a lock that one of b's steps needs.
func (h holders) taken(b *build, needed pipelines.Step) bool {
	another := func(other *build) bool { return other != b }
	return slices.ContainsFunc(locks(needed), func(want lock) bool {
		return slices.ContainsFunc(h.running[want], another) || slices.ContainsFunc(h.reached[want], another) || slices.ContainsFunc(h.unread, another)
	})
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
