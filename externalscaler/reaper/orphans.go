package reaper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// sighting is what is remembered of a runner without a pod.
type sighting struct {
	// since is when a leader first saw it so, and seen when this process did.
	since, seen time.Time
	// looked is when the list was begun after which it was last looked at.
	looked time.Time
	// said is true once a dry run has logged it.
	said bool
}

// overdue remembers since when each runner has been without a pod and returns, by
// scope, those beyond the grace that can be removed, each once for each list: until
// the next one, another look would show nothing new and cost calls.
func (r *Reaper) overdue(podless []fleet.Podless) map[scope.ID][]fleet.Podless {
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	current := map[string]struct{}{}
	due := map[scope.ID][]fleet.Podless{}
	for _, p := range podless {
		current[p.Runner.UUID] = struct{}{}
		seen, ok := r.podless[p.Runner.UUID]
		if !ok {
			r.podless[p.Runner.UUID] = r.firstSight(p.Runner.UUID, now)
			continue
		}
		_, busy := r.running[p.Scope]
		waiting := busy || now.Before(r.failures[p.Scope].until)
		if !waiting && r.rules.overdue(p, seen, now) && p.ListBegun.After(seen.looked) && removable(p.Runner) {
			seen.looked = p.ListBegun
			due[p.Scope] = append(due[p.Scope], p)
		}
	}
	for uuid := range r.podless {
		if _, ok := current[uuid]; !ok { // a list lacks it, or it has a pod
			delete(r.podless, uuid)
			delete(r.loaded, uuid)
		}
	}
	return due
}

// overdue reports whether a runner has been without a pod for the grace. What an earlier
// leader saw counts, but this process must have seen it too.
func (r rules) overdue(p fleet.Podless, seen *sighting, now time.Time) bool {
	grace := r.grace(p)
	return now.Sub(seen.since) >= grace && now.Sub(seen.seen) >= min(grace, r.LostSight)
}

// grace is how long a runner must have been without a pod. DISABLED hides whether
// it is still connected: if no step is shown at all, it may have one until
// Bitbucket would have noticed that its process is gone.
func (r rules) grace(p fleet.Podless) time.Duration {
	if p.Runner.State.Status == bitbucket.StatusDisabled && !p.Listed.ShowsSteps {
		return max(r.OrphanGrace, r.LostAfter)
	}
	return r.OrphanGrace
}

// removable reports whether a runner without a pod may be removed: one that is
// OFFLINE, or that is not ONLINE and shows no step.
func removable(runner bitbucket.Runner) bool {
	switch runner.State.Status {
	case bitbucket.StatusOffline:
		return true
	case bitbucket.StatusOnline, bitbucket.StatusEnabled:
		return false
	}
	return runner.State.Step == nil
}

// tookStep reports whether a runner came back to life between two reads: it has a
// step that it did not have, or is connected although it should be disabled.
func tookStep(before, after bitbucket.Runner) bool {
	step, last := after.State.Step, before.State.Step
	connected := after.State.Status == bitbucket.StatusOnline || after.State.Status == bitbucket.StatusEnabled
	return connected || step != nil && (last == nil || last.UUID != step.UUID)
}

// removeOrphans deletes runners without a pod: those that are OFFLINE, and those
// that are not ONLINE and show no step in two reads.
func (r *Reaper) removeOrphans(ctx context.Context, runners []fleet.Podless) error {
	pods, err := r.config.Pods.LivePods(ctx)
	if err != nil {
		return fmt.Errorf("read the pods live: %w", err)
	}
	live := map[string]struct{}{}
	for _, pod := range pods {
		live[scope.RunnerName(pod.Name, pod.UID)] = struct{}{}
	}
	var errs []error
	for _, p := range runners {
		if _, ok := live[p.Runner.Name]; ok && !p.Twin {
			continue
		}
		if err := r.removeOrphan(ctx, p.Scope, p.Runner); err != nil {
			errs = append(errs, fmt.Errorf("remove orphan %s: %w", p.Runner.UUID, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Reaper) removeOrphan(ctx context.Context, in scope.ID, listed bitbucket.Runner) error {
	before, err := r.config.Runners.Recheck(ctx, in, listed.UUID)
	if errors.Is(err, bitbucket.ErrNotFound) {
		r.config.Runners.Refresh(in)
		return nil
	}
	if err != nil {
		return err
	}
	if !removable(before) || before.State.Status != listed.State.Status {
		return nil // it is no longer what the list showed, by which its grace was measured
	}
	if r.config.DryRun {
		r.sayOrphan(before)
		return nil
	}
	if err := r.config.Writer.Disable(ctx, in, before); err != nil && !errors.Is(err, bitbucket.ErrDisableUnsupported) && !errors.Is(err, bitbucket.ErrNotFound) {
		return err
	}
	// Once more: nothing may have been assigned before it was disabled.
	after, err := r.config.Runners.Recheck(ctx, in, listed.UUID)
	if err != nil && !errors.Is(err, bitbucket.ErrNotFound) {
		return err
	}
	if err == nil && tookStep(before, after) {
		return nil
	}
	if err := r.config.Writer.Delete(ctx, in, listed); err != nil {
		return err
	}
	r.config.Count(ReasonOrphan)
	r.log.Info("orphan removed", zap.Stringer("scope", in), zap.String("runner", listed.UUID), zap.String("name", listed.Name))
	return nil
}

// sayOrphan logs once, in a dry run, that a runner would be removed.
func (r *Reaper) sayOrphan(runner bitbucket.Runner) {
	r.mu.Lock()
	seen := r.podless[runner.UUID]
	said := seen == nil || seen.said
	if seen != nil {
		seen.said = true
	}
	r.mu.Unlock()
	if !said {
		r.log.Info("orphan would be removed", zap.String("runner", runner.UUID), zap.String("name", runner.Name))
	}
}
