package reaper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// sighting is what is remembered of a runner without a pod.
type sighting struct {
	since time.Time
	// looked is when the list was begun after which it was last looked at.
	looked time.Time
	// said is true once a dry run has told of it.
	said bool
}

// overdue remembers since when each runner has been without a pod and returns
// those beyond the grace that can be removed, each once for each list: until the
// next one, another look would tell nothing new and cost calls.
func (r *Reaper) overdue(podless map[*fleet.Scope][]bitbucket.Runner) map[*fleet.Scope][]bitbucket.Runner {
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	current := map[string]struct{}{}
	due := map[*fleet.Scope][]bitbucket.Runner{}
	for scope, runners := range podless {
		begun := scope.ListBegun()
		_, busy := r.running[scope]
		waiting := busy || now.Before(r.failures[scope].until)
		for _, runner := range runners {
			current[runner.UUID] = struct{}{}
			seen, ok := r.podless[runner.UUID]
			if !ok {
				r.podless[runner.UUID] = &sighting{since: now}
				continue
			}
			if !waiting && now.Sub(seen.since) >= r.grace(scope, runner) && begun.After(seen.looked) && removable(runner) {
				seen.looked = begun
				due[scope] = append(due[scope], runner)
			}
		}
	}
	maps.DeleteFunc(r.podless, func(uuid string, _ *sighting) bool { _, ok := current[uuid]; return !ok })
	return due
}

// grace is how long a runner must have been without a pod. DISABLED hides whether
// it is connected still: where no step is shown at all, it may have one until
// Bitbucket would have noticed that its process is gone.
func (r *Reaper) grace(scope *fleet.Scope, runner bitbucket.Runner) time.Duration {
	if _, tellsSteps, _ := scope.Listed(runner.UUID); runner.State.Status == bitbucket.StatusDisabled && !tellsSteps {
		return max(r.config.OrphanGrace, r.config.LostAfter)
	}
	return r.config.OrphanGrace
}

// removeOrphans deletes runners without a pod: those that are OFFLINE, and those
// that are not ONLINE and show no step in two reads.
func (r *Reaper) removeOrphans(ctx context.Context, scope *fleet.Scope, runners []bitbucket.Runner) error {
	pods, err := r.config.Pods.LivePods(ctx)
	if err != nil {
		return fmt.Errorf("read the pods live: %w", err)
	}
	live := map[string]struct{}{}
	for _, pod := range pods {
		live[fleet.RunnerName(pod.Name, pod.UID)] = struct{}{}
	}
	var errs []error
	for _, runner := range runners {
		if _, ok := live[runner.Name]; ok && !r.config.Fleet.Twin(runner) {
			continue
		}
		if err := r.removeOrphan(ctx, scope, runner); err != nil {
			errs = append(errs, fmt.Errorf("remove orphan %s: %w", runner.UUID, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Reaper) removeOrphan(ctx context.Context, scope *fleet.Scope, listed bitbucket.Runner) error {
	before, err := scope.Get(ctx, listed.UUID)
	if errors.Is(err, bitbucket.ErrNotFound) {
		scope.Hint()
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
	if err := scope.Disable(ctx, before); err != nil && !errors.Is(err, bitbucket.ErrDisableUnsupported) && !errors.Is(err, bitbucket.ErrNotFound) {
		return err
	}
	// Once more: nothing may have been assigned before it was disabled.
	after, err := scope.Get(ctx, listed.UUID)
	if err != nil && !errors.Is(err, bitbucket.ErrNotFound) {
		return err
	}
	if err == nil && tookStep(before, after) {
		return nil
	}
	if err := scope.Delete(ctx, listed); err != nil {
		return err
	}
	r.config.Count(ReasonOrphan)
	r.log.Info("orphan removed", zap.String("scope", scope.Written.String()), zap.String("runner", listed.UUID), zap.String("name", listed.Name))
	return nil
}

// tookStep reports whether a runner came back to life between two reads: it has a
// step that it did not have, or is connected where disabling cannot be had.
func tookStep(before, after bitbucket.Runner) bool {
	step, last := after.State.Step, before.State.Step
	connected := after.State.Status == bitbucket.StatusOnline || after.State.Status == bitbucket.StatusEnabled
	return connected || step != nil && (last == nil || last.UUID != step.UUID)
}

// sayOrphan tells once, in a dry run, of a runner that would be removed.
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

// removable: OFFLINE, or not ONLINE and without a step.
func removable(runner bitbucket.Runner) bool {
	switch runner.State.Status {
	case bitbucket.StatusOffline:
		return true
	case bitbucket.StatusOnline, bitbucket.StatusEnabled:
		return false
	}
	return runner.State.Step == nil
}
