package policy

import (
	"slices"
	"time"
)

// Window remembers what was asked for one group, which paces its scale-down as an
// HPA's stabilization window does. The zero value is ready; not safe for
// concurrent use.
type Window struct {
	// asked falls, and its times rise, from the first entry to the last: an entry
	// is dropped as soon as a later one asks for as much, so at most ScopeLimit+1
	// are kept.
	asked []asked
	begun bool
}

type asked struct {
	runners int
	at      time.Time
}

// record adds what is asked for now and returns the highest asked for within the
// cool-down. A window that begins, with the group or after a restart, begins with
// the group's capacity, so that nothing is taken away at once.
func (w *Window) record(runners, capacity int, coolDown time.Duration, now time.Time) int {
	if !w.begun {
		w.begun = true
		w.push(capacity, now)
	}
	// A clock that was set back would keep entries of the future for ever: they
	// count as asked for now.
	for i := range w.asked {
		if w.asked[i].at.After(now) {
			w.asked[i].at = now
		}
	}
	w.push(runners, now)
	past := 0 // what is asked for now stays, even without a cool-down
	for past < len(w.asked)-1 && now.Sub(w.asked[past].at) >= coolDown {
		past++
	}
	w.asked = slices.Delete(w.asked, 0, past)
	return w.asked[0].runners
}

func (w *Window) push(runners int, at time.Time) {
	w.asked = slices.DeleteFunc(w.asked, func(a asked) bool { return a.runners <= runners })
	w.asked = append(w.asked, asked{runners: runners, at: at})
}
