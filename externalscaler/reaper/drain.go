package reaper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// drain disables the runners of pods that are to end: by eviction, a node's drain,
// or the deletion of a pod, a Job or a ScaledJob. The preStop hook waits until
// stopDrained ends them.
func (r *Reaper) drain(ctx context.Context, s subject, members []fleet.Member) error {
	var errs []error
	for _, m := range members {
		if !m.Terminating() || m.Runner == nil || m.State == fleet.Gone || m.Runner.State.Status == bitbucket.StatusDisabled {
			continue
		}
		why := removal{ReasonTerminating, "its pod is deleted"}
		disabled, err := r.disable(ctx, s, m, why)
		switch {
		case errors.Is(err, bitbucket.ErrDisableUnsupported):
			err = r.endUndisabled(ctx, s, m, why)
		case disabled && m.State == fleet.Draining:
			// Whoever deletes an idle pod does not want to wait for the next list.
			_, err = m.Scope.Get(ctx, m.Runner.UUID)
			if errors.Is(err, bitbucket.ErrNotFound) {
				err = nil
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("drain runner %s of %s: %w", m.Runner.UUID, s.GroupKey, err))
		}
	}
	return errors.Join(errs...)
}

// endUndisabled ends a runner whose pod ends anyhow where Bitbucket cannot
// disable: once it has been idle for so long, by its own word, that a step
// assigned before would be known.
func (r *Reaper) endUndisabled(ctx context.Context, s subject, m fleet.Member, why removal) error {
	idle := r.watch(m.Pod.UID, "idle", saysIdle(m), m.Scope.ListBegun())
	if idle.lasted < r.config.Settle {
		return nil
	}
	seen, err := m.Scope.Get(ctx, m.Runner.UUID)
	if err != nil {
		return err
	}
	if seen.State.Step == nil || endedStep(m, seen) {
		r.stop(s, m, why)
	}
	return nil
}

// stopDrained ends the runners that are disabled and have no step.
func (r *Reaper) stopDrained(ctx context.Context, s subject, members []fleet.Member) {
	for _, m := range members {
		if m.State != fleet.Draining || m.Runner == nil || !m.Terminating() && r.config.DryRun {
			continue
		}
		r.glance(ctx, m)
		if !r.settled(m) {
			continue
		}
		why := removal{ReasonDisabled, "it was disabled"}
		if left, known := r.left(m); known {
			why = left.removal
		}
		if m.Telemetry.Attached {
			r.stop(s, m, why)
		}
	}
}

// A runner tells Bitbucket of its step's end a moment after its log tells of it:
// glance looks first after glanceDelay, and then every glanceEvery.
const (
	glanceDelay = 500 * time.Millisecond
	glanceEvery = 3 * time.Second
)

// glance looks at a disabled runner whose sidecar has told of its step's end, where
// what was read last still shows the step: its place is wanted before the next list.
func (r *Reaper) glance(ctx context.Context, m fleet.Member) {
	listed, _, ok := m.Scope.Listed(m.Runner.UUID)
	if !ok || listed.State.Step == nil || !endedStep(m, listed) {
		return
	}
	now := r.config.Clock.Now()
	r.mu.Lock()
	due := now.Sub(r.glanced[m.Runner.UUID]) >= glanceEvery
	if due {
		r.glanced[m.Runner.UUID] = now
	}
	r.mu.Unlock()
	if !due {
		return
	}
	if early := glanceDelay - now.Sub(m.Telemetry.Since); early > 0 && !r.sleep(ctx, min(early, glanceDelay), nil) {
		return
	}
	if _, err := m.Scope.Get(ctx, m.Runner.UUID); err != nil {
		r.log.Debug("a look at a drained runner failed", zap.String("runner", m.Runner.UUID), zap.Error(err))
	}
}

// endSilent ends drained runners whose sidecars cannot be told, by deleting their
// Jobs.
func (r *Reaper) endSilent(ctx context.Context, s subject, members []fleet.Member) error {
	var errs []error
	for _, m := range members {
		if m.Job == nil {
			continue
		}
		silent := m.State == fleet.Draining && m.Runner != nil && !m.Telemetry.Attached && !m.Terminating() && r.settled(m)
		why := removal{ReasonLost, "it is disabled and idle, and its sidecar does not answer"}
		if r.watch(m.Job.UID, "silent", silent, m.Scope.ListBegun()).lasted >= r.config.DetachedLimit && silent && !r.dry(s, m, why) {
			errs = append(errs, r.deleteJob(ctx, s, m, why))
		}
	}
	return errors.Join(errs...)
}

// settled says whether a runner can have no step and get none that it has not
// learned of yet: what was read while it was disabled shows none, and those of
// others. Where no step is shown at all, its own word and time must tell.
func (r *Reaper) settled(m fleet.Member) bool {
	listed, tellsSteps, ok := m.Scope.Listed(m.Runner.UUID)
	disabled := ok && listed.State.Status == bitbucket.StatusDisabled
	// Asked at every look, so that its time counts.
	since := r.watch(m.Runner.UUID, "disabled", disabled && r.trustworthy(m), m.Scope.ListBegun())
	report := m.Telemetry
	switch {
	case !disabled:
		return false
	case listed.State.Step != nil:
		if !endedStep(m, listed) {
			return false
		}
		// The runner tells its log of a step's end before it tells Bitbucket: a later look
		// shows that it has, or else time must do.
		return r.config.Clock.Since(report.Since) >= r.config.Settle
	case tellsSteps && report.Attached && !r.trustworthy(m):
		// Its sidecar may have been started again a moment ago, and know more soon.
		return r.config.Clock.Since(report.Since) >= r.config.Settle
	case tellsSteps:
		return true
	}
	return since.lasted >= r.config.Settle && r.config.Clock.Since(report.Since) >= r.config.Settle
}

// left is what is remembered of a runner that was disabled.
func (r *Reaper) left(m fleet.Member) (leaving, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, known := r.leaving[m.Runner.UUID]
	return left, known
}

// trustworthy says whether it is known without Bitbucket's lists that a member has no
// step: its own word is that it is idle; or it has not come online for so long, by
// its own word and by Bitbucket's until it was disabled.
func (r *Reaper) trustworthy(m fleet.Member) bool {
	report := m.Telemetry
	offline := report.Activity == fleet.ActivityStarting || report.Unrecognized && report.StepsBegun == 0 && report.Activity != fleet.ActivityBusy
	left, _ := r.left(m)
	return saysIdle(m) || report.Attached && offline && left.neverOnline
}

// retirable says whether a runner that counts as idle can be told to end: by its own
// word it is idle; or its lines are not understood, and so Bitbucket's lists say it.
func retirable(m fleet.Member) bool {
	return m.State == fleet.Idle && m.Runner != nil && (saysIdle(m) || m.Telemetry.Attached && m.Telemetry.Unrecognized)
}

// saysIdle says whether a member's sidecar is a witness that it has no step.
func saysIdle(m fleet.Member) bool {
	return m.Telemetry.Attached && m.Telemetry.Activity == fleet.ActivityIdle
}

// endedStep says whether the step that Bitbucket shows is one of which the
// sidecar has reported the end.
func endedStep(m fleet.Member, shown bitbucket.Runner) bool {
	step := shown.State.Step
	return saysIdle(m) && step.UUID != "" && step.UUID == m.Telemetry.LastStep
}

// endLost disables runners that are OFFLINE or UNHEALTHY too long, or never came
// online, though their pods live; stopDrained and endSilent end them.
func (r *Reaper) endLost(ctx context.Context, group *fleet.Group) error {
	var errs []error
	for _, m := range group.Members {
		if m.Runner == nil {
			continue
		}
		lost := m.State == fleet.Lost
		w := r.watch(m.Runner.UUID, "lost", lost, group.ListBegun)
		why := removal{ReasonLost, fmt.Sprintf("it has been %s for too long", m.Runner.State.Status)}
		if !lost || w.lasted < r.config.LostSight || w.lists < 2 || r.dry(of(group), m, why) {
			continue
		}
		_, err := r.disable(ctx, of(group), m, why)
		if errors.Is(err, bitbucket.ErrDisableUnsupported) {
			err = r.endUndisabled(ctx, of(group), m, why)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, r.endSilent(ctx, of(group), group.Members))...)
}

// endForgotten ends pods whose runner Bitbucket does not know any more: somebody
// deleted it.
func (r *Reaper) endForgotten(ctx context.Context, group *fleet.Group) error {
	var errs []error
	for _, m := range group.Members {
		if m.Pod == nil {
			continue
		}
		report := m.Telemetry
		forgotten := m.State == fleet.Lost && m.Runner == nil && report.RunnerUUID != ""
		w := r.watch(m.Pod.UID, "forgotten", forgotten, group.ListBegun)
		why := removal{ReasonForgotten, "Bitbucket does not know it any more"}
		// Without a registration it can get no step; it may still run its last.
		ended := report.Attached && report.Activity != fleet.ActivityBusy && report.Activity != fleet.ActivityUnknown
		silent := !report.Attached && w.lasted >= r.config.StartLimit
		if !forgotten || w.lists < 2 || !ended && !silent || r.dry(of(group), m, why) {
			continue
		}
		if _, err := m.Scope.Get(ctx, report.RunnerUUID); !errors.Is(err, bitbucket.ErrNotFound) {
			if err == nil {
				m.Scope.Hint()
			} else {
				errs = append(errs, err)
			}
			continue
		}
		if ended {
			r.stop(of(group), m, why)
		} else {
			errs = append(errs, r.deleteJob(ctx, of(group), m, why))
		}
		r.log.Warn("a pod's runner is not known at Bitbucket", zap.Stringer("group", group.GroupKey), zap.String("runner", report.RunnerUUID))
	}
	return errors.Join(errs...)
}
