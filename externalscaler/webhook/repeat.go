package webhook

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"k8s.io/utils/clock"
)

const (
	repeatsKept = 10_000
	// repeatsAge is longer than Bitbucket repeats a delivery. A later repeat costs a read.
	repeatsAge = time.Hour
)

// repeats knows the requests that were accepted lately.
type repeats struct {
	clock clock.PassiveClock
	known *lru.Cache[string, time.Time]
}

func newRepeats(clock clock.PassiveClock) *repeats {
	known, _ := lru.New[string, time.Time](repeatsKept) // fails only for a size below 1
	return &repeats{clock, known}
}

// has reports whether a request was accepted lately. Those without an identifier never are.
func (r *repeats) has(request string) bool {
	at, ok := r.known.Peek(request)
	return ok && r.clock.Since(at) < repeatsAge
}

func (r *repeats) add(request string) {
	if request != "" {
		r.known.Add(request, r.clock.Now())
	}
}
