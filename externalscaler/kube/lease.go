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

// lease is the lock that client-go's elector calls, and follows what it sees.
// Other processes' clocks are never read: all times are when this process sent or
// saw something.
type lease struct {
	resourcelock.Interface
	// grace is added to the end of a Lease whose holder did not release it.
	grace time.Duration
	log   *zap.Logger
	// lost is closed when another was seen to hold what was held here.
	lost chan struct{}

	mu sync.Mutex
	// holds: the Lease is held, as far as the last call tells.
	holds bool
	over  bool // lost is closed
	term  leader.LeaseTerm
	// foreign is the newest record seen that another held, and foreignEnd when it
	// ends if it is not renewed; nil once its holder has released it.
	foreign    []byte
	foreignEnd time.Time
	failing    bool
}

// current is the present term; false where this process does not hold the Lease.
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
		// The elector compares raw records to see renewals, and they tell times by
		// the second: of two renewals in one second it would miss the later.
		raw = record.RenewTime.AppendFormat(raw, time.RFC3339Nano)
		if record.HolderIdentity != l.Identity() {
			l.seen(*record, raw, time.Now())
		}
	}
	// A Lease that is no more says nothing of its last holder, who may not know yet.
	return record, raw, err
}

// seen follows a record that is not this process's.
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

// release gives the Lease up, so that another may hold it at once. It is called
// when the elector and all work under the Lease have ended.
func (l *lease) release(ctx context.Context) error {
	if !l.letGo() {
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

// letGo ends the term; false if the Lease must run out instead. Writes of a leader
// before this one may still take effect until the term's begin: who takes a
// released Lease would not wait for them.
func (l *lease) letGo() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.holds || time.Now().Before(l.term.From) {
		return false
	}
	l.holds = false
	return true
}

// renewed moves the term's end. The call's begin counts, not its end: others see
// the renewal at the earliest then, and count from when they see it.
func (l *lease) renewed(record resourcelock.LeaderElectionRecord, begun time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return // this process has been told that it leads no more
	}
	if !l.holds {
		l.holds, l.term = true, leader.LeaseTerm{}
		if l.foreign != nil {
			l.term.From = l.foreignEnd.Add(l.grace)
		}
	}
	l.term.Until = begun.Add(time.Duration(record.LeaseDurationSeconds) * time.Second)
}

// outcome logs the first failure of many, and the end of them.
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
