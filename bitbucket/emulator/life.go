package emulator

import (
	"cmp"
	"slices"
	"time"
)

// life is the lifetime of a runner's process, as its calls show it.
type life struct {
	labelSet   string
	born, seen time.Time
}

// maxLives bounds the memory. The oldest entries are dropped.
const maxLives = 100_000

// bury records the lifetime of a runner's process that has ended or is replaced.
func (s *Server) bury(r *runner) {
	if r.born.IsZero() {
		return
	}
	s.lives = append(s.lives, life{r.labelSet, r.born, r.seen})
	if len(s.lives) > maxLives {
		s.lives = s.lives[1:]
	}
	r.born = time.Time{}
}

// peakAlive returns the highest number of processes alive at the same time, by label set.
func (s *Server) peakAlive() map[string]int {
	type event struct {
		at    time.Time
		alive int // +1 or -1
	}
	events := map[string][]event{}
	note := func(l life) {
		if !l.born.IsZero() {
			events[l.labelSet] = append(events[l.labelSet], event{l.born, 1}, event{l.seen, -1})
		}
	}
	for _, l := range s.lives {
		note(l)
	}
	for _, r := range s.runners {
		note(life{r.labelSet, r.born, r.seen})
	}
	peaks := map[string]int{}
	for set, all := range events {
		slices.SortFunc(all, func(a, b event) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(b.alive, a.alive)) })
		alive := 0
		for _, e := range all {
			alive += e.alive
			peaks[set] = max(peaks[set], alive)
		}
	}
	return peaks
}
