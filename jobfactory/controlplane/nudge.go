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

// Times of nudging: KEDA asks a group that is well within its polling interval.
const (
	nudgeFirst = 15 * time.Second
	nudgeMost  = 5 * time.Minute
	nudgeLook  = 3 * time.Second
)

// nudge makes KEDA look anew at the groups with TLS that it has never asked for,
// at growing intervals, until it has. KEDA reads by which authority to verify us
// once, as it takes a ScaledJob up; where the ScaledJob was applied before that was
// published, every call fails from then on, and KEDA never reads it again by itself
// (pkg/scaling/scale_handler.go, getScaledJobMetrics; v2.21).
func (p *ControlPlane) nudge(ctx context.Context) {
	if p.config.Nudger == nil {
		return
	}
	type try struct {
		next time.Time
		wait time.Duration
	}
	tries := map[fleet.GroupKey]*try{}
	for sleep(ctx, nudgeLook) {
		now := time.Now()
		waiting := map[fleet.GroupKey]*try{}
		for _, group := range p.config.Cluster.ScaledJobs() { // faulty ones too: KEDA is to tell of the fault
			if group.Metadata["enableTLS"] != "true" || group.Hold != "" || p.service.Asked(group.GroupKey) {
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
			err := p.config.Nudger.Nudge(ctx, group.GroupKey)
			p.log.Info("KEDA has not asked for a group, it is made to look at it anew", zap.Stringer("group", group.GroupKey), zap.Error(err))
		}
		tries = waiting
	}
}
