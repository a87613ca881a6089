package reaper

import (
	"time"
)

// watchKey names something that must last before anything is done about it.
type watchKey struct{ about, reason string }

// watched is for how long something has been so, without a break, in this
// process's own sight.
type watched struct {
	last time.Time
	// lists are how many lists have shown it, the newest begun at list.
	lists int
	list  time.Time
	// lasted leaves out what was not looked at: a standstill of this process, or a
	// clock that was stepped.
	lasted time.Duration
}

// watchMemory bounds the memory of what is no longer asked for.
const watchMemory = 10 * time.Minute

// watch looks at something again: it holds, or not, which lets the watch begin
// anew. list is when the list was begun that shows it.
func (r *Reaper) watch(about, reason string, holds bool, list time.Time) watched {
	now := r.config.Clock.Now()
	key := watchKey{about, reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !holds {
		delete(r.watched, key)
		return watched{}
	}
	w := r.watched[key]
	if w == nil {
		w = &watched{last: now}
		r.watched[key] = w
	}
	if list.After(w.list) {
		w.lists++
		w.list = list
	}
	if gap := now.Sub(w.last); gap > 0 {
		w.lasted += min(gap, 2*r.config.Interval+time.Second)
	}
	w.last = now
	return *w
}

// pauseWatch keeps what a watch has counted, without counting on.
func (r *Reaper) pauseWatch(about, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watched[watchKey{about, reason}]; w != nil {
		w.last = r.config.Clock.Now()
	}
}
