package policy

import (
	"slices"
	"time"
)

// Window records the numbers of runners desired for one group. It delays scale-down
// as the stabilization window of a HorizontalPodAutoscaler does. The zero value is
// ready to use. A Window is not safe for concurrent use.
type Window struct {
	// desired is sorted: numbers fall and times rise from the first entry to the
	// last. An entry is dropped when a later one has at least its number, so at most
	// ScopeLimit+1 entries are kept.
	desired []desired
	begun   bool
}

type desired struct {
	runners int
	at      time.Time
}

// record adds the number desired now and returns the highest number within the
// cool-down. A new window, of a new group or after a restart, begins with the group's
// capacity, so that no runner is removed at once.
func (w *Window) record(runners, capacity int, coolDown time.Duration, now time.Time) int {
	if !w.begun {
		w.begun = true
		w.push(capacity, now)
	}
	// If the clock was set back, entries with a future time would never expire. They
	// count as desired now.
	for i := range w.desired {
		if w.desired[i].at.After(now) {
			w.desired[i].at = now
		}
	}
	w.push(runners, now)
	past := 0 // the newest entry stays, even without a cool-down
	for past < len(w.desired)-1 && now.Sub(w.desired[past].at) >= coolDown {
		past++
	}
	w.desired = slices.Delete(w.desired, 0, past)
	return w.desired[0].runners
}

func (w *Window) push(runners int, at time.Time) {
	w.desired = slices.DeleteFunc(w.desired, func(d desired) bool { return d.runners <= runners })
	w.desired = append(w.desired, desired{runners: runners, at: at})
}
