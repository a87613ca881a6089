package bitbucket

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Class is the purpose of a call. It decides which calls are admitted when the hourly
// budget runs low.
type Class int

// The classes, most important first.
const (
	// ClassRegistration is for registering, reading, disabling and deleting runners, and
	// for the lists that these need.
	ClassRegistration Class = iota
	// ClassList is for listing runners at intervals and resolving scopes.
	ClassList
	// ClassQueue is for finding queued steps.
	ClassQueue
	// classToken is for OAuth tokens, without which no other call can be made.
	classToken
	// classForeign is for the calls of others with the same credentials, as far as
	// answers show that there are any.
	classForeign

	classes = int(classForeign) + 1
)

// String returns the class's name, for logs and metrics.
func (c Class) String() string {
	switch c {
	case ClassRegistration:
		return "registration"
	case ClassList:
		return "list"
	case ClassQueue:
		return "queue"
	case classToken:
		return "token"
	default:
		return "foreign"
	}
}

type forRegistrationKey struct{}

// ForRegistration returns a context whose calls count as ClassRegistration: a list that a
// registration or a removal needs is part of it.
func ForRegistration(ctx context.Context) context.Context {
	return context.WithValue(ctx, forRegistrationKey{}, true)
}

const (
	// DefaultBudget is how many calls per hour Bitbucket Cloud allows for a user, an
	// OAuth consumer or an access token.
	DefaultBudget = 1000
	// DefaultReserve is the fraction of the budget that lists leave to
	// ClassRegistration.
	DefaultReserve = 0.1

	// budgetBuckets covers a full hour and the current minute.
	budgetBuckets = 61
)

// Budget counts the calls of one credentials set over a rolling hour, because Bitbucket
// does not report how many remain. It paces lists so that the budget lasts (Pace), and
// learns from answers (see learn). All clients of the set share one Budget. It is safe
// for concurrent use and uses constant memory.
type Budget struct {
	clock   clock.PassiveClock
	reserve float64

	configured int
	started    time.Time // by whose monotonic clock the minutes are counted

	mu    sync.Mutex
	limit int // in force
	// limitAt is when an answer last named a limit below the configured one.
	limitAt time.Time
	begun   int64 // minutes since the epoch; the calls before it are not known
	latest  int64 // minutes since the epoch; never decreases
	buckets [budgetBuckets]minute
	// listsNeeded is how many lists per hour the scopes of the set need.
	listsNeeded float64
	// stretched is the factor that Pace returned last.
	stretched float64
	// pausedUntil is when the next call may be made after a 429. refusals counts the 429
	// without Retry-After in a row.
	pausedUntil time.Time
	refusals    int
}

// minute is the use of one minute.
type minute struct {
	minute int64
	calls  [classes]int
}

func (m minute) total() int {
	total := 0
	for _, calls := range m.calls {
		total += calls
	}
	return total
}

// NewBudget returns a Budget of limit calls per rolling hour. Lists leave the fraction
// reserve of it to ClassRegistration. If limit is not positive, it is DefaultBudget. If
// reserve is not within [0, 0.3], it is DefaultReserve.
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
	now := clk.Now()
	return &Budget{clock: clk, configured: limit, limit: limit, reserve: reserve, started: now, begun: now.Unix() / 60}
}

// Limit returns the number of calls allowed per hour: the configured one, or a lower one
// that an answer named within the last hour.
func (b *Budget) Limit() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.minute()
	return b.limit
}

// Used returns the number of calls in the last hour. It includes the calls of others
// with the same credentials that answers have shown.
func (b *Budget) Used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used(b.minute())
}

// Remaining returns the number of calls that remain in the rolling hour, including the
// reserve.
func (b *Budget) Remaining() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.remaining(b.minute())
}

// check returns why a call may not be made now: a *RateLimitedError after a 429, or
// ErrBudgetExhausted.
func (b *Budget) check(class Class) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusal(class, b.minute())
}

// take counts one call, or returns what check does.
func (b *Budget) take(class Class) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.minute()
	if err := b.refusal(class, now); err != nil {
		return err
	}
	b.count(class, now, 1)
	return nil
}

func (b *Budget) refusal(class Class, now int64) error {
	if wait := b.pausedUntil.Sub(b.clock.Now()); wait > 0 {
		return &RateLimitedError{RetryAfter: wait}
	}
	if !b.admits(class, now) {
		return fmt.Errorf("%w for class %s, %d of %d left", ErrBudgetExhausted, class, b.remaining(now), b.limit)
	}
	return nil
}

// admits reports whether the budget has a call for that class now. Called locked.
func (b *Budget) admits(class Class, now int64) bool {
	if b.remaining(now) == 0 {
		return false
	}
	free := float64(b.limit - 1)
	switch class {
	case ClassRegistration:
		// The lists that are guaranteed must remain possible until calls leave the hour,
		// and some of them at once.
		return b.steady(now, free-2*b.guaranteed(), 1) >= b.guaranteed()
	case ClassList:
		// Lists that follow Pace may use some of the reserve for a while, and give it back.
		return b.listsNeeded > 0 || b.steady(now, free-b.reserved(), 1) >= 0
	case ClassQueue:
		// The lists at their own intervals, the reserve and the usual number of other
		// calls must remain possible.
		return b.steady(now, free-b.reserved(), 1) >= b.listsNeeded/60+b.others(now)
	default:
		return true
	}
}

// count adds calls of a class to a minute of the last hour. Called locked.
func (b *Budget) count(class Class, at int64, calls int) {
	bucket := &b.buckets[at%budgetBuckets]
	if bucket.minute < at {
		*bucket = minute{minute: at}
	}
	bucket.calls[class] += calls
}

// minute returns the current minute, and brings what depends on the time up to date. It
// counts from the start by the monotonic clock, because the wall clock may be stepped, and
// it never decreases.
func (b *Budget) minute() int64 {
	now := b.started.Unix() + int64(b.clock.Since(b.started)/time.Second)
	b.latest = max(b.latest, now/60)
	if b.limit < b.configured && b.clock.Since(b.limitAt) > time.Hour {
		b.limit = b.configured
	}
	return b.latest
}

// hour returns the calls of the last hour by class. Called locked.
func (b *Budget) hour(now int64) (calls [classes]int) {
	for _, bucket := range b.buckets {
		if bucket.minute > now-budgetBuckets {
			for class, n := range bucket.calls {
				calls[class] += n
			}
		}
	}
	return calls
}

func (b *Budget) used(now int64) int { return minute{calls: b.hour(now)}.total() }

func (b *Budget) remaining(now int64) int { return max(0, b.limit-b.used(now)) }
