// Package peaks counts how many processes of runners were alive at the same time.
package peaks

import (
	"cmp"
	"slices"
	"time"
)

// Life is the lifetime of a runner's process, as its calls show it.
type Life struct {
	LabelSet   string
	Born, Seen time.Time
}

// Alive returns the highest number of processes alive at the same time, by label set.
func Alive(lives []Life) map[string]int {
	type event struct {
		at    time.Time
		alive int // +1 or -1
	}
	events := map[string][]event{}
	for _, l := range lives {
		if !l.Born.IsZero() {
			events[l.LabelSet] = append(events[l.LabelSet], event{l.Born, 1}, event{l.Seen, -1})
		}
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
