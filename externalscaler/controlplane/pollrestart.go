package controlplane

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/pause"
	"bitbucket-runner-scaler/externalscaler/reaper"
)

// PollRestarter makes KEDA read a ScaledJob again.
type PollRestarter interface {
	RestartPolling(ctx context.Context, key fleet.GroupKey) error
}

// The times for restarting KEDA's polling of a group.
const (
	// firstWait and maxWait are the shortest and the longest wait before a restart.
	firstWait = 15 * time.Second
	maxWait   = 5 * time.Minute
	// checkInterval is the time between two checks of all groups.
	checkInterval = 3 * time.Second
	// minQuiet is the shortest time without a call for a group before its polling is
	// restarted.
	minQuiet = 30 * time.Second
)

// pollWatch restarts KEDA's polling of groups with TLS that KEDA does not call for. It
// repeats that at growing intervals until KEDA calls.
//
// KEDA reads the authority with which it verifies the scaler only once, when it begins
// to poll a ScaledJob. If the authority was not published yet, or has been replaced
// since, every call fails and KEDA does not read it again
// (pkg/scaling/scale_handler.go, getScaledJobMetrics; v2.21). This happens to the first
// ScaledJob of a namespace, and to the only one if it is deleted and applied again.
type pollWatch struct {
	groups func() []fleet.ScaledJob // includes faulty ones, so that KEDA reports the fault
	// lastCall returns when KEDA last called for a group. It is zero for never.
	lastCall  func(key fleet.GroupKey) time.Time
	restarter PollRestarter
	events    reaper.Events
	log       *zap.Logger
}

// notPolled is the reason of the Event of a group whose polling this process cannot
// restart, for example because it may not change ScaledJobs.
const notPolled = "NotPolled"

// enough is how many restarts without a call show that something else is wrong. KEDA before 2.20
// keeps its first connection to an address, whatever authority it had
// (pkg/scalers/external_scaler.go, getClientForConnectionPool; v2.17), until its operator
// restarts.
const enough = 2

// restart is when a group's polling is restarted next, and the wait after that.
type restart struct {
	next time.Time
	wait time.Duration
	done int  // restarts so far
	told bool // an Event was written
}

func (w pollWatch) run(ctx context.Context) {
	due := map[fleet.GroupKey]*restart{}
	for pause.For(ctx, clock.RealClock{}, checkInterval, nil) {
		now := time.Now()
		waiting := map[fleet.GroupKey]*restart{}
		for _, group := range w.groups() {
			if group.Metadata["enableTLS"] != "true" || group.Hold != "" || now.Sub(w.lastCall(group.GroupKey)) < max(minQuiet, 3*group.PollingInterval) {
				continue
			}
			r := due[group.GroupKey]
			if r == nil {
				r = &restart{next: now.Add(firstWait), wait: firstWait}
			}
			waiting[group.GroupKey] = r
			if now.Before(r.next) {
				continue
			}
			r.wait = min(2*r.wait, maxWait)
			r.next = now.Add(r.wait)
			err := w.restarter.RestartPolling(ctx, group.GroupKey)
			w.log.Info("KEDA does not poll the group: annotating its ScaledJob", zap.Stringer("group", group.GroupKey), zap.Error(err))
			if message := r.message(group, err); message != "" && !r.told && ctx.Err() == nil {
				r.told = true
				w.events.Event(group.GroupKey, group.UID, reaper.Event{Reason: notPolled, Warning: true, Message: message})
			}
		}
		due = waiting
	}
}

// message counts a restart of the polling, and returns what a person has to do; empty for
// nothing.
func (r *restart) message(group fleet.ScaledJob, err error) string {
	if err != nil {
		return fmt.Sprintf("KEDA does not ask for this group, and the scaler may not make it read the ScaledJob again (%v): "+
			"run kubectl annotate --overwrite scaledjob %s -n %s autoscaling.keda.sh/paused=false, or =0 if it is false already", err, group.Name, group.Namespace)
	}
	if r.done++; r.done <= enough {
		return ""
	}
	return "KEDA does not ask for this group, although the scaler made it read the ScaledJob again: read the log of KEDA's operator. " +
		"If it does not trust the scaler's certificate, as KEDA before 2.20 after the first installation, restart it: kubectl rollout restart deployment/keda-operator -n keda"
}
