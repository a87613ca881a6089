package controlplane

import (
	"context"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/pause"
)

// PollRestarter makes KEDA read a ScaledJob again.
type PollRestarter interface {
	RestartPolling(ctx context.Context, key fleet.GroupKey) error
}

// Times of restarting KEDA's polling of a group.
const (
	restartFirst = 15 * time.Second
	restartMost  = 5 * time.Minute
	restartLook  = 3 * time.Second
	// quietLeast is how long KEDA may be silent about a group at least.
	quietLeast = 30 * time.Second
)

// pollWatch makes KEDA read again the groups with TLS that it does not ask for, at
// growing intervals, until it does. KEDA reads by which authority to verify us once,
// when it takes a ScaledJob up; if that was not published then, or is another's by
// now, every call fails from then on, and KEDA never reads it again by itself
// (pkg/scaling/scale_handler.go, getScaledJobMetrics; v2.21). The same happens to a
// ScaledJob that is applied first of all, and to one that is deleted and applied
// again as the only one of its namespace.
type pollWatch struct {
	groups func() []fleet.ScaledJob // faulty ones too: KEDA is to report the fault
	// asked is when a group was last called for; zero is never.
	asked     func(key fleet.GroupKey) time.Time
	restarter PollRestarter
	log       *zap.Logger
}

// restart is when a group is due, and how long it waits after that.
type restart struct {
	next time.Time
	wait time.Duration
}

func (w pollWatch) run(ctx context.Context) {
	due := map[fleet.GroupKey]*restart{}
	for pause.For(ctx, clock.RealClock{}, restartLook, nil) {
		now := time.Now()
		waiting := map[fleet.GroupKey]*restart{}
		for _, group := range w.groups() {
			if group.Metadata["enableTLS"] != "true" || group.Hold != "" || now.Sub(w.asked(group.GroupKey)) < max(quietLeast, 3*group.PollingInterval) {
				continue
			}
			r := due[group.GroupKey]
			if r == nil {
				r = &restart{next: now.Add(restartFirst), wait: restartFirst}
			}
			waiting[group.GroupKey] = r
			if now.Before(r.next) {
				continue
			}
			r.wait = min(2*r.wait, restartMost)
			r.next = now.Add(r.wait)
			err := w.restarter.RestartPolling(ctx, group.GroupKey)
			w.log.Info("KEDA stopped polling the group; touching its ScaledJob", zap.Stringer("group", group.GroupKey), zap.Error(err))
		}
		due = waiting
	}
}
