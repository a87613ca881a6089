package kube

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"bitbucket-runner-scaler/externalscaler/leader"
)

// lease is the Lease as one replica knows it. It never uses other processes' clocks:
// every time is when this process sent or saw something.
type lease struct {
	Lock
	duration time.Duration
	// timeout bounds each call.
	timeout time.Duration
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
	// own is the record that this process wrote last, at ownAt.
	own   resourcelock.LeaderElectionRecord
	ownAt time.Time
	// foreign is the newest record seen of another holder. foreignEnd is when it expires
	// without a renewal. foreign is nil after the holder has released the Lease.
	foreign    *resourcelock.LeaderElectionRecord
	foreignEnd time.Time
	failing    bool
	leader     string // the last that was logged
}

// current returns the current term. It returns false if this process does not hold the
// Lease.
func (l *lease) current() (leader.LeaseTerm, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.holds
}

// lastRenewal returns when this process sent its last renewal.
func (l *lease) lastRenewal() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ownAt
}

// expiry returns when the Lease of another holder expires. It is zero if none is known.
func (l *lease) expiry() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.foreign == nil {
		return time.Time{}
	}
	return l.foreignEnd
}

// tryAcquire reads the Lease and takes it if it is free. It calls changed if another
// holder has written it since this process saw it last. A call goes on to its end if ctx
// is cancelled, because one that is cut off might take effect.
func (l *lease) tryAcquire(ctx context.Context, changed func()) bool {
	ctx = context.WithoutCancel(ctx)
	present, err := l.read(ctx)
	if apierrors.IsNotFound(err) {
		// Its last holder may not know yet that it was deleted, so foreign stays.
		return l.write(ctx, l.Create, resourcelock.LeaderElectionRecord{}) == nil
	}
	if err != nil {
		return false
	}
	if l.seen(*present, time.Now()) {
		changed()
	}
	if time.Now().Before(l.expiry()) && present.HolderIdentity != l.Identity() {
		return false
	}
	return l.write(ctx, l.Update, *present) == nil
}

// renew renews the Lease, without reading it unless that fails. It ends at the deadline.
func (l *lease) renew(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	l.mu.Lock()
	own := l.own
	l.mu.Unlock()
	if err := l.write(ctx, l.Update, own); err == nil {
		return nil
	}
	present, err := l.read(ctx)
	switch {
	case apierrors.IsNotFound(err):
		return l.write(ctx, l.Create, own)
	case err != nil:
		return err
	case present.HolderIdentity != l.Identity():
		l.seen(*present, time.Now())
		return ErrLeaseLost
	}
	return l.write(ctx, l.Update, *present)
}

// read makes one call.
func (l *lease) read(ctx context.Context) (*resourcelock.LeaderElectionRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	present, _, err := l.Get(ctx)
	l.outcome(err)
	return present, err
}

// write makes one call, Create or Update, which makes this process the holder in place of
// the present one.
func (l *lease) write(ctx context.Context, call func(context.Context, resourcelock.LeaderElectionRecord) error, present resourcelock.LeaderElectionRecord) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	begun := time.Now()
	next := resourcelock.LeaderElectionRecord{
		HolderIdentity: l.Identity(), LeaseDurationSeconds: int(l.duration / time.Second),
		RenewTime: metav1.NewTime(begun), AcquireTime: present.AcquireTime, LeaderTransitions: present.LeaderTransitions,
	}
	if present.HolderIdentity != l.Identity() {
		next.AcquireTime = next.RenewTime
		if present.HolderIdentity != "" || !present.RenewTime.IsZero() {
			next.LeaderTransitions++
		}
	}
	err := call(ctx, next)
	l.outcome(err)
	if err == nil {
		l.renewed(next, begun)
	}
	return err
}

// seen records what another process wrote. It returns true for a renewal that was not
// known.
func (l *lease) seen(record resourcelock.LeaderElectionRecord, at time.Time) (renewed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if record.HolderIdentity == l.Identity() {
		return false
	}
	if l.holds {
		l.holds, l.over = false, true
		close(l.lost)
	}
	if record.HolderIdentity == "" {
		l.foreign = nil
		return false
	}
	l.logLeader(record.HolderIdentity)
	if l.foreign != nil && l.foreign.HolderIdentity == record.HolderIdentity && l.foreign.RenewTime.Equal(&record.RenewTime) {
		return false
	}
	l.foreign, l.foreignEnd = &record, at.Add(time.Duration(record.LeaseDurationSeconds)*time.Second)
	return true
}

// logLeader logs each new leader once.
func (l *lease) logLeader(identity string) {
	if l.leader != identity {
		l.leader = identity
		l.log.Info("leader seen", zap.String("leader", identity), zap.Bool("self", identity == l.Identity()))
	}
}

// release releases the Lease, so that another replica can acquire it at once. It is
// called after all renewals and all work under the Lease have ended.
func (l *lease) release(ctx context.Context) error {
	if !l.endTerm() {
		return nil
	}
	record, err := l.read(ctx)
	if err != nil || record.HolderIdentity != l.Identity() {
		return err
	}
	now := metav1.Now()
	return l.Update(ctx, resourcelock.LeaderElectionRecord{
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
	l.logLeader(record.HolderIdentity)
	l.own, l.ownAt = record, begun
	l.term.Until = begun.Add(time.Duration(record.LeaseDurationSeconds) * time.Second)
}

// outcome logs the first of several failures, and the first success after them.
func (l *lease) outcome(err error) {
	fails := err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err)
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
