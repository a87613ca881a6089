package controlplane

import (
	"context"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Nudger makes KEDA look at a ScaledJob anew.
type Nudger interface {
	Nudge(ctx context.Context, key fleet.GroupKey) error
}

// Times of nudging.
const (
	nudgeFirst = 15 * time.Second
	nudgeMost  = 5 * time.Minute
	nudgeLook  = 3 * time.Second
	// quietLeast is how long KEDA may be silent about a group at least.
	quietLeast = 30 * time.Second
)

// nudging makes KEDA look anew at the groups with TLS that it does not ask for, at
// growing intervals, until it does. KEDA reads by which authority to verify us once,
// as it takes a ScaledJob up; where that was not published then, or is another's by
// now, every call fails from then on, and KEDA never reads it again by itself
// (pkg/scaling/scale_handler.go, getScaledJobMetrics; v2.21). So it is with one that
// is applied first of all, and with one that is deleted and applied again as the only
// one of its namespace.
type nudging struct {
	groups func() []fleet.ScaledJob // faulty ones too: KEDA is to tell of the fault
	// asked is when a group was last called for; zero is never.
	asked  func(key fleet.GroupKey) time.Time
	nudger Nudger
	log    *zap.Logger
}

// try is when a group is due, and how long it waits after that.
type try struct {
	next time.Time
	wait time.Duration
}

func (n nudging) run(ctx context.Context) {
	tries := map[fleet.GroupKey]*try{}
	for sleep(ctx, nudgeLook) {
		now := time.Now()
		waiting := map[fleet.GroupKey]*try{}
		for _, group := range n.groups() {
			if group.Metadata["enableTLS"] != "true" || group.Hold != "" || now.Sub(n.asked(group.GroupKey)) < max(quietLeast, 3*group.PollingInterval) {
				continue
			}
			t := tries[group.GroupKey]
			if t == nil {
				t = &try{next: now.Add(nudgeFirst), wait: nudgeFirst}
			}
			waiting[group.GroupKey] = t
			if now.Before(t.next) {
				continue
			}
			t.wait = min(2*t.wait, nudgeMost)
			t.next = now.Add(t.wait)
			err := n.nudger.Nudge(ctx, group.GroupKey)
			n.log.Info("KEDA does not ask for a group, it is made to look at it anew", zap.Stringer("group", group.GroupKey), zap.Error(err))
		}
		tries = waiting
	}
}
