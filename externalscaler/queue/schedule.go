package queue

import (
	"context"
	"math"
	"time"
)

// worth is the order in which reads are made if several are due. A lower one comes first.
type worth int

const (
	worthHint  worth = iota // a pipeline that a webhook or a runner names
	worthNew                // a pipeline that was found, or whose steps must be read at once
	worthPush               // a repository to which something was pushed
	worthFirst              // a repository or workspace that was never read
	worthHot                // what is live
	worthCold               // all else
)

// read is one read, which may take several calls.
type read struct {
	set    *set
	client Bitbucket
	err    error // why there is no client
	// call makes the calls, without the lock. apply then takes their outcome, under it.
	call  func(ctx context.Context, client Bitbucket) error
	apply func(err error, now time.Time)
}

// candidate is a read that is or will be due.
type candidate struct {
	worth worth
	due   time.Time
	start func() *read // marks it as in progress. Called locked.
}

// next returns the read to be made now and marks it, or how long to wait for one.
func (q *Queue) next() (*read, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.config.Clock.Now()
	wait := time.Minute // looks again in any case
	for _, set := range q.sets {
		if set.reading >= readsAtOnce {
			continue // the end of one of them wakes
		}
		if set.pausedUntil.After(now) {
			wait = min(wait, set.pausedUntil.Sub(now))
			continue
		}
		best, soonest := set.best(now)
		if best != nil {
			set.reading++
			read := best.start()
			read.set = set
			read.client, read.err = set.open()
			return read, 0
		}
		if set.err != nil && set.reading == 0 { // what was refused need not be read any more
			set.err = nil
			q.changed()
		}
		if !soonest.IsZero() {
			wait = min(wait, soonest.Sub(now))
		}
	}
	return nil, max(wait, time.Millisecond)
}

// best returns the worthiest read that is due, of equal ones the one that is due longest, or
// when the next one will be.
func (s *set) best(now time.Time) (best *candidate, soonest time.Time) {
	s.candidates(now, func(c candidate) {
		switch {
		case c.due.After(now):
			if soonest.IsZero() || c.due.Before(soonest) {
				soonest = c.due
			}
		case best == nil, c.worth < best.worth, c.worth == best.worth && c.due.Before(best.due):
			best = &c
		}
	})
	return best, soonest
}

// candidates passes on every read that is or will be due.
func (s *set) candidates(now time.Time, yield func(candidate)) {
	factor := s.factor(now)
	stretched := func(d time.Duration) time.Duration { return time.Duration(min(float64(d)*factor, float64(time.Hour))) }
	for _, w := range s.workspaces {
		if w.reading {
			continue
		}
		c := candidate{worth: worthFirst, due: w.due, start: func() *read { return s.look(w) }}
		if !w.looked.IsZero() {
			c.worth = worthCold
			c.due = later(w.due, w.looked.Add(stretched(w.interval(now))))
		}
		yield(c)
	}
	for _, n := range s.named {
		if n.uuid == "" && !n.reading {
			yield(candidate{worth: worthFirst, due: n.due, start: func() *read { return s.resolve(n) }})
		}
	}
	for uuid, r := range s.repositories {
		if r.forgotten(now) {
			delete(s.repositories, uuid)
			continue
		}
		r.candidates(now, stretched, yield)
	}
}

func (r *repository) candidates(now time.Time, stretched func(time.Duration) time.Duration, yield func(candidate)) {
	for id, h := range r.hints {
		if !h.reading {
			yield(candidate{worth: worthHint, due: h.due, start: func() *read { return r.readHinted(id, h) }})
		}
	}
	for _, b := range r.builds {
		switch {
		case b.reading:
		case !b.soon.IsZero():
			yield(candidate{worth: worthNew, due: b.soon, start: func() *read { return r.readBuild(b) }})
		case !b.idle():
			yield(candidate{worth: worthHot, due: b.from().Add(stretched(b.interval(now))), start: func() *read { return r.readBuild(b) }})
		case !b.reported().IsZero(): // that its steps have ended is what runners say, and not Bitbucket
			yield(candidate{worth: worthCold, due: later(b.read, b.reported()).Add(stretched(quietInterval)), start: func() *read { return r.readBuild(b) }})
		}
	}
	if r.reading {
		return
	}
	c := candidate{worth: worthCold, due: r.retryAt, start: func() *read { return r.list() }}
	interval := r.interval(now)
	switch {
	case r.listed.IsZero():
		c.worth = worthFirst
	case !r.pushedAt.IsZero():
		c.worth, c.due = worthPush, later(r.retryAt, r.pushedAt)
	case r.listErr != nil: // the repository counts as unknown until a list succeeds, at retryAt
	case interval == 0:
		return
	default:
		c.due = later(r.retryAt, r.listed.Add(stretched(interval)))
		if interval == hotInterval {
			c.worth = worthHot
		}
	}
	yield(c)
}

// factor is by how much the intervals between reads are longer than wanted, for the budget.
func (s *set) factor(now time.Time) float64 {
	perHour := 0.0
	add := func(interval time.Duration) {
		if interval > 0 {
			perHour += float64(time.Hour) / float64(interval)
		}
	}
	for _, w := range s.workspaces {
		add(w.interval(now))
	}
	for _, r := range s.repositories {
		add(r.interval(now))
		for _, b := range r.builds {
			if !b.idle() {
				add(b.interval(now))
			}
		}
	}
	if perHour == 0 {
		return 1
	}
	if factor := s.queue.config.Pacer(s.name).PaceReads(perHour); factor >= 1 && !math.IsInf(factor, 0) {
		return factor
	}
	return math.MaxInt32 // no read can be afforded; stretched bounds it
}

// interval is the time between two looks for repositories that have changed.
func (w *workspace) interval(now time.Time) time.Duration {
	if !w.hookedAt.IsZero() && now.Sub(w.hookedAt) < hooksBelieved {
		return 10 * foundInterval // not all of its repositories may have webhooks
	}
	return foundInterval
}

// interval is the time between two reads of the steps, as far as no hint or report asks for one.
func (b *build) interval(now time.Time) time.Duration {
	switch {
	case b.failures > retriesSoon:
		return quietInterval
	case !b.held.IsZero():
		return min(max(hotInterval, now.Sub(b.held)/8), quietInterval)
	case b.unknown != "", !b.waiting().IsZero():
		return confirmInterval
	default:
		return quietInterval
	}
}

// RegularReads is how often the steps of a pipeline are read besides the reads that something asks
// for, if steps of it wait for a time altogether, and our runners run some for another.
func RegularReads(waiting, running time.Duration) int {
	return int(waiting/confirmInterval) + int(running/quietInterval)
}

// from is when the interval to the next read began: with the last read, or since then with a step
// that waits or with what holds the pipeline back.
func (b *build) from() time.Time { return later(later(b.tried, b.waiting()), b.held) }

// waiting is since when the step has waited that waits for longest; zero if none waits.
func (b *build) waiting() (since time.Time) {
	for _, s := range b.steps {
		if !s.waiting.IsZero() && (since.IsZero() || s.waiting.Before(since)) {
			since = s.waiting
		}
	}
	return since
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
