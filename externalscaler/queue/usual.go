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

// usual knows how long steps usually take, from how long they took lately.
type usual struct {
	durations *lru.Cache[usualKey, []time.Duration]
}

type usualKey struct{ repository, selector, step string }

func newUsual() usual {
	cache, err := lru.New[usualKey, []time.Duration](mostUsual)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return usual{durations: cache}
}

func (u usual) add(key usualKey, took time.Duration) {
	last, _ := u.durations.Get(key)
	last = append(slices.Clone(last), took)
	u.durations.Add(key, last[max(0, len(last)-keptDurations):])
}

// of returns the median of the last durations; 0 if none is known.
func (u usual) of(key usualKey) time.Duration {
	last, _ := u.durations.Get(key)
	if len(last) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(last))
	return sorted[len(sorted)/2]
}
