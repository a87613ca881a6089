package reaper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/pause"
)

// performAll carries out actions that do not depend on one another.
func (r *Reaper) performAll(ctx context.Context, s subject, due []action) error {
	errs := make([]error, 0, len(due))
	for _, a := range due {
		_, err := r.perform(ctx, s, a)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// performWhileSupported carries out actions until one fails, or Bitbucket refuses to
// disable: then, unless scale-down may be unsafe, nothing is retired, and an Event
// says so.
func (r *Reaper) performWhileSupported(ctx context.Context, s subject, due []action) (acted bool, err error) {
	for _, a := range due {
		did, err := r.perform(ctx, s, a)
		acted = acted || did
		switch {
		case errors.Is(err, bitbucket.ErrDisableUnsupported) && r.config.UnsafeScaleDown:
			if saysIdle(a.member) {
				r.stop(s, a.member, removal{a.reason, a.why + ", and Bitbucket cannot disable it"})
			}
		case errors.Is(err, bitbucket.ErrDisableUnsupported):
			r.say(s, ReasonDisableUnsupported, "", "Bitbucket refuses to disable runners, so none is retired; --unsafe-scale-down would retire them at the risk of a step")
			return acted, nil
		case err != nil:
			return acted, err
		}
	}
	return acted, nil
}

// perform carries out one action. It reports whether it changed who stays online.
// In a dry run it only says what would be done, but drains pods that are deleted.
func (r *Reaper) perform(ctx context.Context, s subject, a action) (acted bool, err error) {
	m := a.member
	if a.kind == unmarkReplaced {
		r.config.Marks.UnmarkReplaced(m.Pod.UID)
		return true, nil
	}
	if r.config.DryRun && !m.Terminating() {
		r.sayDry(s, a)
		return false, nil
	}
	switch a.kind {
	case disable:
		return r.disable(ctx, s, m, a.removal)
	case disableOrStop:
		return r.disableOrStop(ctx, s, m, a.removal)
	case stop:
		r.stop(s, m, a.removal)
	case confirmGone, confirmGoneDelete:
		return false, r.confirmGone(ctx, s, a)
	case deleteJob:
		return false, r.deleteJob(ctx, s, m, a.removal)
	case deleteUnregistered, finishUnregistered:
		return false, r.endUnregistered(ctx, s, a)
	case markReplaced:
		r.config.Marks.MarkReplaced(m.Pod.UID)
		return true, nil
	}
	return false, nil
}

// disable lets a runner take no new step, and remembers why it leaves. It reports
// false if Bitbucket cannot, or the runner is gone.
func (r *Reaper) disable(ctx context.Context, s subject, m fleet.Member, why removal) (disabled bool, err error) {
	err = r.config.Writer.Disable(ctx, m.Scope, *m.Runner)
	switch {
	case errors.Is(err, bitbucket.ErrNotFound):
		r.config.Runners.Refresh(m.Scope)
		return false, nil
	case errors.Is(err, bitbucket.ErrDisableUnsupported):
		return false, err
	case err != nil:
		return false, fmt.Errorf("%s: %w", s, err)
	}
	r.mu.Lock()
	if _, known := r.rules.memory.leaving[m.Runner.UUID]; !known {
		r.rules.memory.leaving[m.Runner.UUID] = leaving{why, m.Runner.State.Status == bitbucket.StatusUnregistered && m.Age > r.config.StartLimit}
	}
	r.mu.Unlock()
	if m.Pod != nil {
		r.config.Sidecars.Drain(m.Pod.UID, why.why)
	}
	r.config.Runners.Refresh(m.Scope) // one list for the whole batch shows what each does by then
	r.log.Info("runner disabled", zap.Stringer("group", s), zap.String("runner", m.Runner.UUID), zap.String("name", m.Name), zap.String("reason", why.reason))
	return true, nil
}

// disableOrStop disables a runner that ends anyhow, and rechecks one that is idle at
// once: who deletes an idle pod does not want to wait for the next list. If
// Bitbucket cannot disable, it stops a runner that has been idle for long enough.
func (r *Reaper) disableOrStop(ctx context.Context, s subject, m fleet.Member, why removal) (disabled bool, err error) {
	disabled, err = r.disable(ctx, s, m, why)
	if errors.Is(err, bitbucket.ErrDisableUnsupported) {
		return false, r.stopUndisabled(ctx, s, m, why)
	}
	if disabled && m.State == fleet.Draining {
		if _, err = r.config.Runners.Recheck(ctx, m.Scope, m.Runner.UUID); errors.Is(err, bitbucket.ErrNotFound) {
			err = nil
		}
	}
	if err != nil {
		err = fmt.Errorf("drain %s: %w", m.Name, err)
	}
	return disabled, err
}

func (r *Reaper) stopUndisabled(ctx context.Context, s subject, m fleet.Member, why removal) error {
	r.mu.Lock()
	idle := r.rules.idleLongEnough(m)
	r.mu.Unlock()
	if !idle {
		return nil
	}
	seen, err := r.config.Runners.Recheck(ctx, m.Scope, m.Runner.UUID)
	if err != nil {
		return err
	}
	if seen.State.Step == nil || endedStep(m, seen) {
		r.stop(s, m, why)
	}
	return nil
}

// confirmGone ends a pod whose runner a live read does not find either.
func (r *Reaper) confirmGone(ctx context.Context, s subject, a action) error {
	m := a.member
	uuid := m.Telemetry.RunnerUUID
	_, err := r.config.Runners.Recheck(ctx, m.Scope, uuid)
	if err == nil {
		r.config.Runners.Refresh(m.Scope)
		return nil
	}
	if !errors.Is(err, bitbucket.ErrNotFound) {
		return err
	}
	r.log.Warn("the runner of a pod is not known at Bitbucket", zap.Stringer("group", s), zap.String("runner", uuid))
	if a.kind == confirmGoneDelete {
		return r.deleteJob(ctx, s, m, a.removal)
	}
	r.stop(s, m, a.removal)
	return nil
}

// stop orders a member's sidecar to end its runner, and counts it.
func (r *Reaper) stop(s subject, m fleet.Member, why removal) {
	if m.Pod != nil && r.config.Sidecars.Stop(m.Pod.UID, why.why) {
		r.removed(s, m, why)
	}
}

// deleteJob ends a member whose sidecar is not attached, or whose Job never came to
// a runner. The caller has made sure that it has no step.
func (r *Reaper) deleteJob(ctx context.Context, s subject, m fleet.Member, why removal) error {
	if m.Job == nil || r.config.Jobs == nil {
		return nil
	}
	counted := m.Pod != nil && m.State != fleet.Gone
	if counted { // in place of a Job that is gone but still counted, KEDA creates another
		r.config.Marks.MarkStopping(m.Pod.UID)
		if err := r.config.Snapshots.Sync(ctx); err != nil {
			r.config.Marks.UnmarkStopping(m.Pod.UID)
			return err
		}
	}
	if err := r.config.Jobs.DeleteJob(ctx, m.Job.Namespace, m.Job.Name, m.Job.UID); err != nil {
		if counted {
			r.config.Marks.UnmarkStopping(m.Pod.UID)
		}
		return err
	}
	r.removed(s, m, why)
	return nil
}

// endUnregistered ends a Job that has no runner. The snapshot in which it was chosen
// may be older than the slow writes of its pass: what the Job is now is looked up while
// no runner can be registered in its scope.
func (r *Reaper) endUnregistered(ctx context.Context, s subject, a action) error {
	before, ok, err := r.again(ctx, s.GroupKey, a.member)
	if err != nil || !ok {
		return err
	}
	return r.config.Writer.WhileUnregistered(ctx, before.Scope, before.Name, func(ctx context.Context) error {
		m, ok, err := r.again(ctx, s.GroupKey, a.member)
		switch {
		case err != nil, !ok, m.State != fleet.Pending, m.Runner != nil, m.Name != before.Name, !m.AskedLast.Equal(a.member.AskedLast) && a.kind == deleteUnregistered:
			return err // it has changed: the rules decide again
		case a.kind == finishUnregistered:
			r.config.Marks.MarkStopping(m.Pod.UID)
		case r.config.Jobs == nil:
			return nil
		default:
			if deleted, err := r.config.Jobs.DeleteUnchangedJob(ctx, *m.Job); err != nil || !deleted {
				return err
			}
			if m.Pod != nil {
				r.config.Marks.MarkStopping(m.Pod.UID)
			}
		}
		r.removed(s, m, a.removal)
		return nil
	})
}

// again looks a member's Job up in the newest snapshot; false if it is not there.
func (r *Reaper) again(ctx context.Context, key fleet.GroupKey, member fleet.Member) (fleet.Member, bool, error) {
	if err := r.config.Snapshots.Sync(ctx); err != nil {
		return fleet.Member{}, false, err
	}
	group, err := r.config.Snapshots.Group(key)
	if err != nil {
		return fleet.Member{}, false, nil //nolint:nilerr // nothing current is known, so nothing is done
	}
	for _, m := range group.Members {
		if m.Job != nil && member.Job != nil && m.Job.UID == member.Job.UID {
			return m, true, nil
		}
	}
	return fleet.Member{}, false, nil
}

// A runner reports its step's end to Bitbucket a moment after it logs it: it is
// rechecked first after recheckDelay, and then every recheckEvery.
const (
	recheckDelay = 500 * time.Millisecond
	recheckEvery = 3 * time.Second
)

// recheckDrained reads the disabled runners live whose sidecars have reported the
// end of the step that was shown last: their slots are wanted before the next list.
// It reports whether any was read.
func (r *Reaper) recheckDrained(ctx context.Context, members []fleet.Member) (rechecked bool) {
	for _, m := range members {
		if m.State != fleet.Draining || m.Runner == nil || !m.Terminating() && r.config.DryRun ||
			!m.IsListed || m.Listed.Runner.State.Step == nil || !endedStep(m, m.Listed.Runner) {
			continue
		}
		now := r.config.Clock.Now()
		r.mu.Lock()
		due := now.Sub(r.rechecked[m.Runner.UUID]) >= recheckEvery
		if due {
			r.rechecked[m.Runner.UUID] = now
		}
		r.mu.Unlock()
		if !due {
			continue
		}
		if !pause.For(ctx, r.config.Clock, min(recheckDelay-now.Sub(m.Telemetry.Since), recheckDelay), nil) {
			return rechecked
		}
		if _, err := r.config.Runners.Recheck(ctx, m.Scope, m.Runner.UUID); err != nil {
			r.log.Debug("rechecking a drained runner failed", zap.String("runner", m.Runner.UUID), zap.Error(err))
		}
		rechecked = true
	}
	return rechecked
}
