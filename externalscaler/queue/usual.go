package queue

import (
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// mostUsual bounds the steps whose durations are known.
const mostUsual = 10000

// keptDurations is how many durations of a step are kept.
const keptDurations = 5

// Usual knows how long steps usually take, from how long they took lately.
type Usual struct {
	durations *lru.Cache[UsualKey, []time.Duration]
}

// UsualKey names a step of all runs of a pipeline.
type UsualKey struct{ Repository, Selector, Step string }

// NewUsual returns a Usual that knows nothing yet.
func NewUsual() Usual {
	cache, err := lru.New[UsualKey, []time.Duration](mostUsual)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return Usual{durations: cache}
}

// Add notes how long a step took.
func (u Usual) Add(key UsualKey, took time.Duration) {
	last, _ := u.durations.Get(key)
	last = append(slices.Clone(last), took)
	u.durations.Add(key, last[max(0, len(last)-keptDurations):])
}

// Of returns the median of the last durations; 0 if none is known.
func (u Usual) Of(key UsualKey) time.Duration {
	last, _ := u.durations.Get(key)
	if len(last) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(last))
	return sorted[len(sorted)/2]
}
