package kube

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"bitbucket-runner-scaler/externalscaler/leader"
)

// lease is the lock that client-go's elector calls. It tracks what the elector reads and
// writes. It never uses other processes' clocks: every time is when this process sent or
// saw something.
type lease struct {
	resourcelock.Interface
	// grace is added to the end of a Lease that its holder did not release.
	grace time.Duration
	log   *zap.Logger
	// lost is closed when this process held the Lease and sees that another holds it.
	lost chan struct{}

	mu sync.Mutex
	// holds is true if this process held the Lease at the last call.
	holds bool
	over  bool // lost is closed
	term  leader.LeaseTerm
	// foreign is the newest record seen of another holder. foreignEnd is when it expires
	// without a renewal. foreign is nil after the holder has released the Lease.
	foreign    []byte
	foreignEnd time.Time
	failing    bool
}

// current returns the current term. It returns false if this process does not hold the
// Lease.
func (l *lease) current() (leader.LeaseTerm, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.holds
}

// Get implements resourcelock.Interface.
func (l *lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	l.outcome(ctx, err)
	if err == nil {
		// The elector detects renewals by comparing raw records, whose times are in whole
		// seconds. Without the fraction it would miss the second of two renewals in one
		// second.
		raw = record.RenewTime.AppendFormat(raw, time.RFC3339Nano)
		if record.HolderIdentity != l.Identity() {
			l.seen(*record, raw, time.Now())
		}
	}
	// If the Lease was deleted, its last holder may not know it yet, so foreign stays.
	return record, raw, err
}

// seen records what another process wrote.
func (l *lease) seen(record resourcelock.LeaderElectionRecord, raw []byte, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holds {
		l.holds, l.over = false, true
		close(l.lost)
	}
	switch {
	case record.HolderIdentity == "":
		l.foreign = nil
	case !bytes.Equal(raw, l.foreign):
		l.foreign, l.foreignEnd = bytes.Clone(raw), at.Add(time.Duration(record.LeaseDurationSeconds)*time.Second)
	}
}

// Create implements resourcelock.Interface.
func (l *lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	begun := time.Now()
	err := l.Interface.Create(ctx, record)
	l.outcome(ctx, err)
	if err == nil {
		l.renewed(record, begun)
	}
	return err
}

// Update implements resourcelock.Interface.
func (l *lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	begun := time.Now()
	err := l.Interface.Update(ctx, record)
	l.outcome(ctx, err)
	if err == nil {
		l.renewed(record, begun)
	}
	return err
}

// release releases the Lease, so that another replica can acquire it at once. It is
// called after the elector and all work under the Lease have ended.
func (l *lease) release(ctx context.Context) error {
	if !l.endTerm() {
		return nil
	}
	record, _, err := l.Interface.Get(ctx)
	if err != nil || record.HolderIdentity != l.Identity() {
		return err
	}
	now := metav1.Now()
	return l.Interface.Update(ctx, resourcelock.LeaderElectionRecord{
		LeaderTransitions: record.LeaderTransitions, LeaseDurationSeconds: 1, AcquireTime: now, RenewTime: now,
	})
}

// endTerm ends the term. It returns false if the Lease must expire instead: until the
// term begins, writes of the previous leader may still take effect, and a replica that
// acquires a released Lease would not wait for them.
func (l *lease) endTerm() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.holds || time.Now().Before(l.term.From) {
		return false
	}
	l.holds = false
	return true
}

// renewed moves the end of the term. It counts from the beginning of the call, because
// that is the earliest time at which others can see the renewal and count from it.
func (l *lease) renewed(record resourcelock.LeaderElectionRecord, begun time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return // lead's context has ended, so this process no longer leads
	}
	if !l.holds {
		l.holds, l.term = true, leader.LeaseTerm{}
		if l.foreign != nil {
			l.term.From = l.foreignEnd.Add(l.grace)
		}
	}
	l.term.Until = begun.Add(time.Duration(record.LeaseDurationSeconds) * time.Second)
}

// outcome logs the first of several failures, and the first success after them.
func (l *lease) outcome(ctx context.Context, err error) {
	fails := err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !errors.Is(ctx.Err(), context.Canceled)
	l.mu.Lock()
	changed := fails != l.failing
	l.failing = fails
	l.mu.Unlock()
	switch {
	case changed && fails:
		l.log.Warn("the lease cannot be reached", zap.Error(err))
	case changed:
		l.log.Info("the lease can be reached again")
	}
}
