package kube

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/pause"
)

// Lock is the Lease as a replica reads, writes and watches it.
type Lock interface {
	resourcelock.Interface
	// Watch returns a channel that receives the present record and each later one, and an
	// empty one if the Lease is deleted. The channel is closed when the watch has ended,
	// at the latest with ctx.
	Watch(ctx context.Context) (<-chan resourcelock.LeaderElectionRecord, error)
}

// LeaseLock returns the lock of the Lease of that name. Each call uses a new identity:
// a container that restarts in its pod must not regard the previous process's Lease as
// its own.
func LeaseLock(client kubernetes.Interface, namespace, name, pod string) Lock {
	return &leaseLock{LeaseLock: resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: pod + "_" + uuid.NewString()},
	}}
}

type leaseLock struct{ resourcelock.LeaseLock }

// Watch implements Lock.
func (l *leaseLock) Watch(ctx context.Context) (<-chan resourcelock.LeaderElectionRecord, error) {
	name := l.LeaseMeta.Name
	watcher, err := l.Client.Leases(l.LeaseMeta.Namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return nil, fmt.Errorf("watch Lease %s: %w", l.Describe(), err)
	}
	records := make(chan resourcelock.LeaderElectionRecord)
	go func() {
		defer close(records)
		defer watcher.Stop()
		for {
			var event apiwatch.Event
			var open bool
			select {
			case <-ctx.Done():
				return
			case event, open = <-watcher.ResultChan():
			}
			found, ok := event.Object.(*coordinationv1.Lease)
			if !open || !ok {
				return // also for an error that the API server reports
			}
			if found.Name != name {
				continue
			}
			var record resourcelock.LeaderElectionRecord
			if event.Type != apiwatch.Deleted {
				record = *resourcelock.LeaseSpecToLeaderElectionRecord(&found.Spec)
			}
			select {
			case <-ctx.Done():
				return
			case records <- record:
			}
		}
	}()
	return records, nil
}

// watchAgain is the time after which a standby whose watch was refused, or has missed a
// change, watches again. Until then it polls.
const watchAgain = 10 * time.Second

// leaseWatch waits for a standby until the Lease may be free. Only a read of the Lease
// proves that it is: a watch may be late, or silent because its connection is broken.
type leaseWatch struct {
	lease *lease
	// silence is the time without a change after which the Lease is read.
	silence time.Duration
	records <-chan resourcelock.LeaderElectionRecord // nil if there is no watch
	cancel  context.CancelFunc
	again   time.Time
	failing bool // the last watch could not be begun
}

// untilFree waits until the Lease was released or deleted, or has expired. While that is
// not known, it waits for the retry period.
func (w *leaseWatch) untilFree(ctx context.Context, retry time.Duration) {
	if w.records == nil && !w.begin(ctx) {
		pause.For(ctx, clock.RealClock{}, w.within(retry, retry), nil)
		return
	}
	for {
		timer := time.NewTimer(w.within(w.silence, retry))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case record, open := <-w.records:
			timer.Stop()
			switch {
			case !open:
				w.end()
				pause.For(ctx, clock.RealClock{}, retry, nil)
			case record.HolderIdentity != "":
				w.lease.seen(record, time.Now())
				continue
			}
		}
		timer.Stop()
		return
	}
}

// within returns the time until the Lease expires, but at most so long. If it has expired
// already, its last read has failed, and within returns the retry period.
func (w *leaseWatch) within(most, retry time.Duration) time.Duration {
	if rest := time.Until(w.lease.expiry()); rest > 0 {
		return min(rest, most)
	}
	return retry
}

// begin starts the watch, unless it has failed a short time ago.
func (w *leaseWatch) begin(ctx context.Context) bool {
	now := time.Now()
	if now.Before(w.again) {
		return false
	}
	ctx, w.cancel = context.WithCancel(ctx)
	late := time.AfterFunc(w.lease.timeout, w.cancel)
	defer late.Stop()
	records, err := w.lease.Watch(ctx)
	if err != nil {
		w.cancel()
		w.again = now.Add(watchAgain)
		if !w.failing {
			w.lease.log.Warn("the lease cannot be watched: it is read instead", zap.Error(err))
		}
		w.failing = true
		return false
	}
	w.records, w.failing = records, false
	return true
}

// behind ends a watch that has missed a change.
func (w *leaseWatch) behind() {
	if w.records != nil {
		w.end()
		w.again = time.Now().Add(watchAgain)
	}
}

// end ends the watch.
func (w *leaseWatch) end() {
	if w.records == nil {
		return
	}
	w.cancel()
	for range w.records { //nolint:revive // until it is closed
	}
	w.records = nil
}
