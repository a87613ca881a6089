// Package reaper takes runners away: the surplus of a group, by disabling one,
// looking again, and only then telling its sidecar to end it; and runners of ours
// that no pod is left for. It never deletes a runner that may be busy: what is
// not known counts as busy. How many there should be is decided by package
// policy; the last deletion of a runner that ended in order is the registrar's.
package reaper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// Decider tells how many runners a group should have.
type Decider interface {
	Decide(key fleet.GroupKey) (policy.Decision, error)
}

// Sidecars passes orders to the sidecars that are attached.
type Sidecars interface {
	// Stop tells a pod's sidecar to end its runner; false if it cannot be told.
	Stop(podUID, reason string) bool
}

// Pods reads the runner pods live, not from a cache: a watch that lags must
// never make a runner look like an orphan.
type Pods interface {
	LivePods(ctx context.Context) ([]fleet.Pod, error)
}

// Events tells the users of a ScaledJob what was done and why.
type Events interface {
	Event(group fleet.GroupKey, uid, reason, message string)
}

// Reasons of a removal, for metrics and events.
const (
	ReasonSurplus = "Surplus"
	ReasonOrphan  = "Orphan"
	// ReasonDisableUnsupported: Bitbucket refuses to disable, so nothing is retired.
	ReasonDisableUnsupported = "DisableUnsupported"
)

// Config is what a Reaper is made of.
type Config struct {
	Fleet    *fleet.Fleet
	Decider  Decider
	Sidecars Sidecars
	// Pods is nil where there is no Kubernetes: then nothing is ever an orphan.
	Pods   Pods
	Events Events
	// Interval between two looks. Default 2 s.
	Interval time.Duration
	// OrphanGrace is how long a runner must have been without a pod in this
	// process's own sight. Default 5 min.
	OrphanGrace time.Duration
	// PassTimeout bounds one pass over a group or a scope. Default 60 s.
	PassTimeout time.Duration
	// DryRun only says what would be done.
	DryRun bool
	// UnsafeScaleDown retires idle runners even where Bitbucket cannot disable
	// them: one that takes a step in that moment loses it.
	UnsafeScaleDown bool
	// Count is called once for each removal, with its reason.
	Count  func(reason string)
	Clock  clock.WithTicker
	Logger *zap.Logger
}

// Reaper removes surplus and orphaned runners.
type Reaper struct {
	config Config
	log    *zap.Logger

	passes sync.WaitGroup
	mu     sync.Mutex
	// running are the groups and scopes whose pass has not ended yet.
	running map[any]struct{}
	// podless: since when this process has seen a runner without a pod.
	podless map[string]time.Time
	// said are the groups that were told once why nothing is retired.
	said map[fleet.GroupKey]string
}

// New makes a Reaper.
func New(config Config) *Reaper {
	if config.Interval == 0 {
		config.Interval = 2 * time.Second
	}
	if config.OrphanGrace == 0 {
		config.OrphanGrace = 5 * time.Minute
	}
	if config.PassTimeout == 0 {
		config.PassTimeout = time.Minute
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	if config.Count == nil {
		config.Count = func(string) {}
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	return &Reaper{
		config: config, log: config.Logger, running: map[any]struct{}{},
		podless: map[string]time.Time{}, said: map[fleet.GroupKey]string{},
	}
}

// Run looks at every group and scope until ctx ends. Each has a pass of its own,
// so that a failure in one never holds up another.
func (r *Reaper) Run(ctx context.Context) error {
	defer r.passes.Wait()
	ticker := r.config.Clock.NewTicker(r.config.Interval)
	defer ticker.Stop()
	for {
		for _, group := range r.config.Fleet.Groups() {
			r.pass(ctx, group.GroupKey, func(ctx context.Context) error { return r.retire(ctx, group.GroupKey) })
		}
		if r.config.Pods != nil {
			podless := r.overdue(r.config.Fleet.Podless())
			for scope, runners := range podless {
				r.pass(ctx, scope, func(ctx context.Context) error { return r.removeOrphans(ctx, scope, runners) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

// pass runs one pass unless the last one over the same thing still runs.
func (r *Reaper) pass(ctx context.Context, what any, do func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.running[what]; ok {
		return
	}
	r.running[what] = struct{}{}
	r.passes.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, r.config.PassTimeout)
		defer cancel()
		if err := do(ctx); err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn("pass failed, it is tried again", zap.Error(err))
		}
		r.mu.Lock()
		delete(r.running, what)
		r.mu.Unlock()
	})
}

// retire takes a group's surplus away: first those that were disabled before and
// are idle by now, then, disabled here, the longest idle ones.
func (r *Reaper) retire(ctx context.Context, key fleet.GroupKey) error {
	group, err := r.config.Fleet.Group(key)
	if err != nil {
		return nil //nolint:nilerr // nothing current is known, so nothing is done; the fleet says why
	}
	r.stopDrained(group)
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
// the cool-down and idle by a witness.
func surplus(group *fleet.Group, decision policy.Decision) []fleet.Member {
	var idle []fleet.Member
	for _, m := range group.Members {
		if m.State == fleet.Idle && m.Runner != nil && m.Age >= group.Spec.Rules.CoolDown {
			idle = append(idle, m)
		}
	}
	slices.SortStableFunc(idle, func(a, b fleet.Member) int { return a.IdleSince.Compare(b.IdleSince) })
	return idle[:min(len(idle), decision.Surplus())]
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

// stopDrained ends the runners that are disabled and, by a list begun since they
// were and by their own sidecar, idle.
func (r *Reaper) stopDrained(group *fleet.Group) {
	for _, m := range group.Members {
		listed := group.Scope.DisabledSince(m.Name)
		witnessed := m.Telemetry.Attached && m.Telemetry.Activity == fleet.ActivityIdle
		if m.State == fleet.Draining && witnessed && group.ListBegun.After(listed) && !r.config.DryRun {
			r.stop(group, m, "disabled and idle")
		}
	}
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
