package bitbucket

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// listGuarantee is the fraction of the budget that is left to lists, however many
	// runners are registered and removed: without lists nothing is known.
	listGuarantee = 0.2
	// refill is the time, in minutes, over which lists give back what was used of the
	// reserve.
	refill = 15

	// maxPause bounds the pause after a 429 without Retry-After, which doubles with each
	// further one.
	maxPause = 2 * time.Minute
	// longestPause bounds the pause after a 429 with Retry-After.
	longestPause = time.Hour

	// maxSlowdown bounds by how many powers of 2 the lists slow down while calls are
	// refused with a 429.
	maxSlowdown = 2

	// nearLimit is the fraction of the limit that is taken to remain if an answer says
	// that the limit is near. Bitbucket does not document its threshold.
	nearLimit = 0.2
)

// Pace returns the factor, at least 1, by which the intervals between lists must be
// longer than wanted so that the budget lasts. listsPerHour is how many lists all scopes
// of the credentials set want per hour. The factor grows smoothly: what remains of the
// rolling hour, less the reserve and the usual number of other calls, is divided among
// the lists.
func (b *Budget) Pace(listsPerHour float64) (factor float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listsNeeded = listsPerHour
	now := b.minute()
	rate := min(b.steady(now, float64(b.limit)-b.reserved(), refill), b.steady(now, float64(b.limit), 1)) - b.others(now)
	b.stretched = stretch(listsPerHour/60, max(rate, b.guaranteed())) * float64(int(1)<<min(b.refusals, maxSlowdown))
	return b.stretched
}

// Stretch returns the factor that Pace returned last; 1 before its first call.
func (b *Budget) Stretch() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(1, b.stretched)
}

// readShare is the part of the calls that remain for the queue which its regular reads may use.
// The rest is for reads that something asks for.
const readShare = 2.0 / 3

// PaceReads returns the factor, at least 1, by which the intervals between the regular reads of
// the queue must be longer than wanted so that they take no calls from lists, from registrations,
// or from reads that cannot wait. readsPerHour is how many the credentials set wants per hour. The
// factor is infinite if no calls remain.
func (b *Budget) PaceReads(readsPerHour float64) (factor float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.minute()
	rate := b.steady(now, float64(b.limit-1)-b.reserved(), 1) - b.listsNeeded/60 - b.others(now)
	if rate <= 0 {
		return math.Inf(1)
	}
	return stretch(readsPerHour/60, rate*readShare)
}

// Hurry reports whether a list may be read before its interval ends, for the sake of a
// runner that is registered or removed.
func (b *Budget) Hurry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.admits(ClassRegistration, b.minute())
}

func stretch(wanted, rate float64) float64 {
	if wanted <= rate {
		return 1
	}
	return wanted / rate
}

// guaranteed is the rate of lists per minute that other calls must leave possible.
// Called locked.
func (b *Budget) guaranteed() float64 {
	return min(b.listsNeeded, float64(b.limit)*listGuarantee) / 60
}

// reserved is how many calls lists leave to other calls. Called locked.
func (b *Budget) reserved() float64 { return math.Ceil(float64(b.limit) * b.reserve) }

// others is the rate per minute of the calls that are not paced, in the last hour.
// Called locked.
func (b *Budget) others(now int64) float64 {
	calls := b.hour(now)
	return float64(calls[ClassRegistration]+calls[classToken]) / float64(min(budgetBuckets, max(refill, now-b.begun)))
}

// steady returns the highest constant rate, in calls per minute, that can be kept up for
// an hour without more than limit calls within any rolling hour. Calls leave the hour
// minute by minute. The first minutes before from are not looked at. Called locked.
func (b *Budget) steady(now int64, limit float64, from int) float64 {
	free := limit - float64(b.used(now))
	lowest := math.Inf(1)
	for m := 1; m <= budgetBuckets; m++ {
		if m >= from {
			lowest = min(lowest, free/float64(m))
		}
		if leaving := b.buckets[(now+int64(m))%budgetBuckets]; leaving.minute == now+int64(m)-budgetBuckets {
			free += float64(leaving.total()) // from then on
		}
	}
	return lowest
}

// learn corrects the budget by an answer. A 429 shows that others use the credentials
// too, or that the limit is lower: half of what seemed to remain is taken to be used,
// spread over the last hour, and no call is made for some time, at first minPause. An
// access token's answer can name the limit, and say that it is near.
func (b *Budget) learn(status int, header http.Header, minPause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, minute := b.clock.Now(), b.minute()
	limit, err := strconv.Atoi(header.Get("X-RateLimit-Limit"))
	if answered := status/100 == 2 || status == http.StatusTooManyRequests; err == nil && limit > 0 && answered { // no proxy's error page
		b.limit, b.limitAt = min(limit, b.configured), now
	}
	if status != http.StatusTooManyRequests {
		b.refusals = 0
		if near, err := strconv.ParseBool(header.Get("X-RateLimit-NearLimit")); err == nil && near {
			b.spend(minute, b.remaining(minute)-int(float64(b.limit)*nearLimit))
		}
		return
	}
	b.spend(minute, (b.remaining(minute)+1)/2)
	wait := retryAfter(header, now)
	if wait == 0 {
		wait = min(maxPause, minPause<<min(b.refusals, 16))
		b.refusals++
	}
	if until := now.Add(wait); until.After(b.pausedUntil) {
		b.pausedUntil = until
	}
}

// paused returns how long no call may be made.
func (b *Budget) paused() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.pausedUntil.Sub(b.clock.Now()))
}

// spend counts calls of others, spread over the last hour. Called locked.
func (b *Budget) spend(now int64, calls int) {
	const past = budgetBuckets - 1
	for m := range past {
		share := calls*(m+1)/past - calls*m/past
		if share > 0 {
			b.count(classForeign, now-int64(m), share)
		}
	}
}

// Usage is the use of a Budget in the last hour, so that it can be kept across restarts.
// Each row is a minute since the epoch, and the calls in it by Class.
type Usage [][]int64

// Usage returns the use in the last hour.
func (b *Budget) Usage() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.minute()
	usage := Usage{}
	for _, bucket := range b.buckets {
		if bucket.minute > now-budgetBuckets && bucket.total() > 0 {
			row := []int64{bucket.minute}
			for _, calls := range bucket.calls {
				row = append(row, int64(calls))
			}
			usage = append(usage, row)
		}
	}
	slices.SortFunc(usage, func(a, b []int64) int { return cmp.Compare(a[0], b[0]) })
	return usage
}

// Restore adds the use that was known before a restart, or to another process. It passes
// over what it does not understand.
func (b *Budget) Restore(usage Usage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.minute()
	for _, row := range usage {
		if len(row) != 1+classes || row[0] <= now-budgetBuckets || row[0] > now {
			continue
		}
		known := b.buckets[row[0]%budgetBuckets]
		for class := range classes {
			more := min(row[1+class], int64(b.limit))
			if known.minute == row[0] {
				more -= int64(known.calls[class]) // this process may have counted them too
			}
			b.count(Class(class), row[0], int(max(0, more)))
		}
		b.begun = min(b.begun, row[0])
	}
}
