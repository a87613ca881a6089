// Package history keeps how a list was in the past, for answers that lag.
package history

import "time"

// most bounds how many past lists are kept.
const most = 1000

// History has the past of one list. The zero History is empty.
type History[T any] struct{ past []snapshot[T] }

// snapshot is the list at one time.
type snapshot[T any] struct {
	at   time.Time
	list []T
}

// Remember keeps a list as it is now. What is older than the lag is forgotten, except for the
// newest such list, which is still shown.
func (h *History[T]) Remember(list []T, now time.Time, lag time.Duration) {
	h.past = append(h.past, snapshot[T]{at: now, list: list})
	for len(h.past) > most || len(h.past) > 1 && now.Sub(h.past[1].at) > lag {
		h.past = h.past[1:]
	}
}

// AsOf returns the list at a time, or the oldest one that is kept.
func (h *History[T]) AsOf(at time.Time) []T {
	if len(h.past) == 0 {
		return nil
	}
	shown := h.past[0]
	for _, later := range h.past[1:] {
		if later.at.After(at) {
			break
		}
		shown = later
	}
	return shown.list
}
