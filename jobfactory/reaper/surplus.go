package reaper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// retire disables a group's surplus; stopDrained ends it once it is idle.
func (r *Reaper) retire(ctx context.Context, key fleet.GroupKey) error {
	group, err := r.config.Fleet.Group(key)
	if err != nil {
		return nil //nolint:nilerr // nothing current is known, so nothing is done; the fleet says why
	}
	if group.Hold != "" {
		r.say(group, "ScaleDownHeld", group.Hold)
		return nil
	}
	decision, err := r.config.Decider.Decide(key)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	victims := surplus(group, decision)
	if len(victims) == 0 {
		return nil
	}
	if r.config.DryRun {
		r.say(group, "DryRun", fmt.Sprintf("%d idle runners would be retired", len(victims)))
		return nil
	}
	disabled, err := r.disable(ctx, group, victims)
	if disabled > 0 {
		// Looked at once for the whole batch; who took a step meanwhile stays
		// disabled, finishes it, and is stopped by a later pass.
		err = errors.Join(err, group.Scope.Refresh(ctx))
	}
	return err
}

// surplus picks the runners to retire: the longest idle first, each older than
// the cool-down, idle by its own sidecar's word, and so one that can be stopped.
func surplus(group *fleet.Group, decision policy.Decision) []fleet.Member {
	var idle []fleet.Member
	for _, m := range group.Members {
		if m.State == fleet.Idle && m.Runner != nil && m.Age >= group.Spec.Rules.CoolDown && saysIdle(m) {
			idle = append(idle, m)
		}
	}
	slices.SortStableFunc(idle, func(a, b fleet.Member) int {
		return cmp.Or(a.IdleSince.Compare(b.IdleSince), cmp.Compare(a.Name, b.Name))
	})
	return idle[:min(len(idle), decision.Surplus())]
}

func saysIdle(m fleet.Member) bool {
	return m.Telemetry.Attached && m.Telemetry.Activity == fleet.ActivityIdle
}

func (r *Reaper) disable(ctx context.Context, group *fleet.Group, victims []fleet.Member) (disabled int, err error) {
	for _, m := range victims {
		err := group.Scope.Disable(ctx, *m.Runner)
		switch {
		case errors.Is(err, bitbucket.ErrNotFound):
			continue
		case errors.Is(err, bitbucket.ErrDisableUnsupported) && r.config.UnsafeScaleDown:
			r.stop(group, m, "surplus, and Bitbucket cannot disable it")
			continue
		case errors.Is(err, bitbucket.ErrDisableUnsupported):
			r.say(group, ReasonDisableUnsupported, "Bitbucket refuses to disable runners, so none is retired; --unsafe-scale-down would retire them at the risk of a step")
			return disabled, nil
		case err != nil:
			return disabled, fmt.Errorf("retire runner %s of %s: %w", m.Runner.UUID, group.GroupKey, err)
		}
		disabled++
		r.log.Info("runner disabled", zap.Stringer("group", group.GroupKey), zap.String("runner", m.Runner.UUID), zap.String("name", m.Name))
	}
	return disabled, nil
}

func (r *Reaper) stop(group *fleet.Group, m fleet.Member, why string) {
	if m.Job == nil || m.Job.Pod == nil || !r.config.Sidecars.Stop(m.Job.Pod.UID, why) {
		return
	}
	r.config.Count(ReasonSurplus)
	r.log.Info("runner stopped", zap.Stringer("group", group.GroupKey), zap.String("runner", m.Runner.UUID), zap.String("reason", why))
	r.event(group, ReasonSurplus, fmt.Sprintf("runner %s of Job %s was stopped: %s", m.Name, m.Job.Name, why))
}

// say tells a group's users something once, until it is something else.
func (r *Reaper) say(group *fleet.Group, reason, message string) {
	r.mu.Lock()
	known := r.said[group.GroupKey] == reason+message
	r.said[group.GroupKey] = reason + message
	r.mu.Unlock()
	if known {
		return
	}
	r.log.Warn("nothing is retired", zap.Stringer("group", group.GroupKey), zap.String("reason", reason), zap.String("why", message))
	r.event(group, reason, message)
}

func (r *Reaper) event(group *fleet.Group, reason, message string) {
	if r.config.Events != nil {
		r.config.Events.Event(group.GroupKey, group.UID, reason, message)
	}
}

// stopDrained ends the runners that are idle by their own sidecar, and disabled by
// what a list itself says.
func (r *Reaper) stopDrained(group *fleet.Group) {
	for _, m := range group.Members {
		if m.State == fleet.Draining && m.Runner != nil && saysIdle(m) && !r.config.DryRun && r.settled(group.Scope, m) {
			r.stop(group, m, "disabled and idle")
		}
	}
}

// settled says whether a drained runner can have no step that it has not learned
// of yet: a list made while it was disabled shows none. Where the scope's lists
// carry no steps, time must tell.
func (r *Reaper) settled(scope *fleet.Scope, m fleet.Member) bool {
	listed, stepSeen, ok := scope.Listed(m.Runner.UUID)
	if !ok || listed.State.Status != bitbucket.StatusDisabled {
		return false
	}
	if step := listed.State.Step; step != nil {
		// What ended after the list was made, its sidecar has reported.
		return step.UUID != "" && step.UUID == m.Telemetry.LastStep
	}
	if stepSeen {
		return true
	}
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.drained, func(_ string, since time.Time) bool { return now.Sub(since) > drainedFor })
	since, ok := r.drained[m.Runner.UUID]
	if !ok {
		r.drained[m.Runner.UUID], since = now, now
	}
	if idle := m.Telemetry.Since; idle.After(since) {
		since = idle
	}
	return now.Sub(since) >= r.config.Settle
}

// drainedFor bounds the memory of drained runners; what is forgotten waits anew.
const drainedFor = time.Hour
