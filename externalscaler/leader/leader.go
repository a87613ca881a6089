// Package leader holds all that follows from the question "does this process
// lead?": who answers it (Leadership, Election), until when a leader may write
// (LeaseTerm, BoundWrite), which calls the process answers (Gate), and how callers
// find the leader (LeaderService). How the lease is kept in Kubernetes is the
// business of package kube.
package leader

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// LeaseTerm bounds the writes of a leader.
type LeaseTerm struct {
	// From: nothing is written before a list begun after it, because the last
	// writes of a leader that died may still be taking effect. Zero if the leader
	// before this one released the lease.
	From time.Time
	// Until: every write has ended by then, because another process may lead from
	// then on. Zero is no bound. It moves on as the lease is renewed.
	Until time.Time
}

// Ended reports whether the term is over at now.
func (t LeaseTerm) Ended(now time.Time) bool { return !t.Until.IsZero() && !now.Before(t.Until) }

// Leadership says whether, and until when, this process is the one that may write
// at Bitbucket.
type Leadership interface {
	// Term returns the present term; false if this process does not lead.
	Term() (LeaseTerm, bool)
}

// Holds reports whether this process leads at now.
func Holds(l Leadership, now time.Time) bool {
	term, leads := l.Term()
	return leads && !term.Ended(now)
}

// Election decides which of several replicas leads.
type Election interface {
	Leadership
	// Run takes part until ctx ends, and calls lead once this replica leads; the
	// context of lead ends when it no longer does. Another replica may lead as soon
	// as lead has returned nil: then all of its work has ended in order.
	Run(ctx context.Context, lead func(context.Context) error) error
}

// Alone is the Election of a process that has no other replica: it always leads.
type Alone struct{}

// Term implements Leadership.
func (Alone) Term() (LeaseTerm, bool) { return LeaseTerm{}, true }

// Run implements Election.
func (Alone) Run(ctx context.Context, lead func(context.Context) error) error { return lead(ctx) }

// WriteTimeout bounds each write at Bitbucket, retries included. A process that
// stops waits for its writes, and a pod's grace period must have room for it.
const WriteTimeout = 15 * time.Second

// BoundWrite returns the context of one write. The write goes on to its end if ctx
// is cancelled, because a write that is cut off might take effect under the next
// leader. It ends after WriteTimeout, at the deadline of ctx, or with the term.
func BoundWrite(ctx context.Context, l Leadership, clk clock.Clock) (context.Context, context.CancelFunc) {
	timeout := WriteTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	if term, leads := l.Term(); !leads || !term.Until.IsZero() {
		go endWithTerm(ctx, cancel, l, clk)
	}
	return ctx, cancel
}

// endWithTerm cuts a write off when the term ends, which moves on while it lasts.
func endWithTerm(ctx context.Context, cut context.CancelFunc, l Leadership, clk clock.Clock) {
	for {
		term, leads := l.Term()
		rest := term.Until.Sub(clk.Now())
		if !leads || rest <= 0 {
			cut()
			return
		}
		timer := clk.NewTimer(rest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}
