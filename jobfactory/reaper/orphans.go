package reaper

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// overdue remembers since when each runner has been without a pod and returns
// those beyond the grace.
func (r *Reaper) overdue(podless map[*fleet.Scope][]bitbucket.Runner) map[*fleet.Scope][]bitbucket.Runner {
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	current := map[string]struct{}{}
	due := map[*fleet.Scope][]bitbucket.Runner{}
	for scope, runners := range podless {
		for _, runner := range runners {
			current[runner.UUID] = struct{}{}
			since, ok := r.podless[runner.UUID]
			if !ok {
				r.podless[runner.UUID] = now
				continue
			}
			if now.Sub(since) >= r.config.OrphanGrace {
				due[scope] = append(due[scope], runner)
			}
		}
	}
	for uuid := range r.podless {
		if _, ok := current[uuid]; !ok {
			delete(r.podless, uuid)
		}
	}
	return due
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
		if _, ok := live[runner.Name]; ok {
			continue
		}
		if err := r.removeOrphan(ctx, scope, runner); err != nil {
			errs = append(errs, fmt.Errorf("remove orphan %s: %w", runner.UUID, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Reaper) removeOrphan(ctx context.Context, scope *fleet.Scope, listed bitbucket.Runner) error {
	current, err := scope.Get(ctx, listed.UUID)
	if errors.Is(err, bitbucket.ErrNotFound) {
		scope.Hint()
		return nil
	}
	if err != nil {
		return err
	}
	if !removable(listed) || !removable(current) {
		return nil
	}
	if r.config.DryRun {
		r.log.Info("orphan would be removed", zap.String("runner", current.UUID), zap.String("name", current.Name))
		return nil
	}
	if err := scope.Disable(ctx, current); err != nil && !errors.Is(err, bitbucket.ErrDisableUnsupported) && !errors.Is(err, bitbucket.ErrNotFound) {
		return err
	}
	// Once more: nothing may have been assigned before it was disabled.
	if current, err = scope.Get(ctx, listed.UUID); err != nil && !errors.Is(err, bitbucket.ErrNotFound) {
		return err
	}
	if err == nil && current.State.Step != nil && current.State.Status != bitbucket.StatusOffline && listed.State.Status != bitbucket.StatusOffline {
		return nil
	}
	if err := scope.Delete(ctx, listed); err != nil {
		return err
	}
	r.config.Count(ReasonOrphan)
	r.log.Info("orphan removed", zap.String("scope", scope.Written.String()), zap.String("runner", listed.UUID), zap.String("name", listed.Name))
	return nil
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
