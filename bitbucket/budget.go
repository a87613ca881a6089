package bitbucket

import (
	"math"
	"sync"

	"k8s.io/utils/clock"
)

// Class is the purpose of a call. When the hourly budget runs low, lower classes are
// refused first.
type Class int

// The classes, most important first.
const (
	// ClassRegistration is for registering, reading, disabling and deleting runners.
	ClassRegistration Class = iota
	// ClassList is for listing runners and resolving scopes.
	ClassList
	// ClassQueue is for finding queued steps.
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
	// DefaultBudget is how many calls per hour Bitbucket Cloud allows for a user, an
	// OAuth consumer or an access token.
	DefaultBudget = 1000
	// DefaultReserve is the fraction of the budget that is kept for
	// registration and deregistration.
	DefaultReserve = 0.1
	// queueReserves is how many times the reserve ClassQueue leaves to the other
	// classes.
	queueReserves = 3

	// budgetBuckets covers a full hour and the current minute.
	budgetBuckets = 61
)

// Budget counts the calls of one credentials set over a rolling hour, because Bitbucket
// does not report how many remain. All clients of the set share one Budget. It is safe
// for concurrent use and uses constant memory.
type Budget struct {
	clock   clock.PassiveClock
	limit   int
	reserve int

	mu      sync.Mutex
	latest  int64 // minutes since the epoch; never decreases
	buckets [budgetBuckets]struct {
		minute int64
		calls  int
	}
}

// NewBudget returns a Budget of limit calls per rolling hour. The fraction reserve of it
// is reserved for ClassRegistration. Three times the reserve is not available to
// ClassQueue. If limit is not positive, it is DefaultBudget. If reserve is not within
// [0, 0.3], it is DefaultReserve.
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

// Limit returns the number of calls allowed per hour.
func (b *Budget) Limit() int { return b.limit }

// Used returns the number of calls in the last hour.
func (b *Budget) Used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used(b.minute())
}

// Remaining returns the number of calls that remain in the rolling hour, including the
// reserve.
func (b *Budget) Remaining() int { return max(0, b.limit-b.Used()) }

// Available returns how many calls a class may make now.
func (b *Budget) Available(class Class) int {
	return max(0, b.Remaining()-b.floor(class))
}

// take counts one call. It returns false if none remains for the class.
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

// floor returns how many calls a class must leave to the classes above it.
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

// minute returns the current minute. It never decreases, so that calls are not counted
// for a past minute if the clock is set back.
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
