package bitbucket

import (
	"math"
	"sync"

	"k8s.io/utils/clock"
)

// Class is what a call is for. When the hourly budget runs low, lower classes
// are refused first.
type Class int

// The classes, the most important first.
const (
	// ClassRegistration registers, checks, disables and deletes runners.
	ClassRegistration Class = iota
	// ClassList lists runners and resolves scopes.
	ClassList
	// ClassQueue looks for waiting steps.
	ClassQueue
)

// String returns the class's name, for logs and metrics.
func (c Class) String() string {
	switch c {
	case ClassRegistration:
		return "registration"
	case ClassList:
		return "list"
	default:
		return "queue"
	}
}

const (
	// DefaultBudget is the calls an hour that Bitbucket Cloud allows a user,
	// an OAuth consumer or an access token.
	DefaultBudget = 1000
	// DefaultReserve is the fraction of the budget that is kept for
	// registration and deregistration.
	DefaultReserve = 0.1
	// queueReserves is how many reserves the queue leaves to the other classes.
	queueReserves = 3

	// budgetBuckets covers a full hour beside the minute in progress.
	budgetBuckets = 61
)

// Budget counts the calls of one credentials set over a rolling hour: Bitbucket
// tells nobody what remains. It is safe for concurrent use and meant to be
// shared by all clients of the set. Its memory is constant.
type Budget struct {
	clock   clock.PassiveClock
	limit   int
	reserve int

	mu      sync.Mutex
	latest  int64 // minutes since the epoch, never going back
	buckets [budgetBuckets]struct {
		minute int64
		calls  int
	}
}

// NewBudget returns a budget of limit calls a rolling hour (DefaultBudget if
// limit is not positive), of which the fraction reserve is kept for
// ClassRegistration and three times as much from ClassQueue (DefaultReserve if
// it is not within [0, 0.3]).
func NewBudget(limit int, reserve float64, clk clock.PassiveClock) *Budget {
	if limit <= 0 {
		limit = DefaultBudget
	}
	if !(reserve >= 0 && reserve <= 0.3) {
		reserve = DefaultReserve
	}
	if clk == nil {
		clk = clock.RealClock{}
	}
	return &Budget{clock: clk, limit: limit, reserve: int(math.Ceil(float64(limit) * reserve))}
}

// Limit is the calls allowed in an hour.
func (b *Budget) Limit() int { return b.limit }

// Used is the calls of the last hour.
func (b *Budget) Used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used(b.minute())
}

// Remaining is the calls left in the rolling hour, the reserve included.
func (b *Budget) Remaining() int { return max(0, b.limit-b.Used()) }

// Available is the calls that a class may still make now.
func (b *Budget) Available(class Class) int {
	return max(0, b.Remaining()-b.floor(class))
}

// take counts one call, or reports that none is left for the class.
func (b *Budget) take(class Class) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	minute := b.minute()
	if b.limit-b.used(minute)-b.floor(class) <= 0 {
		return false
	}
	bucket := &b.buckets[minute%budgetBuckets]
	if bucket.minute != minute {
		bucket.minute, bucket.calls = minute, 0
	}
	bucket.calls++
	return true
}

// floor is what a class must leave to those above it.
func (b *Budget) floor(class Class) int {
	switch class {
	case ClassRegistration:
		return 0
	case ClassList:
		return b.reserve
	default:
		return queueReserves * b.reserve
	}
}

// minute is the current minute; a clock that is set back must not revive what
// was already counted.
func (b *Budget) minute() int64 {
	b.latest = max(b.latest, b.clock.Now().Unix()/60)
	return b.latest
}

func (b *Budget) used(minute int64) int {
	total := 0
	for _, bucket := range b.buckets {
		if bucket.minute > minute-budgetBuckets {
			total += bucket.calls
		}
	}
	return total
}
