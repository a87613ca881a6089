// Package reaper takes runners away: the surplus of a group, by disabling one,
// looking again, and only then telling its sidecar to end it; and runners of ours
// that no pod is left for. It never deletes a runner that may be busy: what is
// not known counts as busy. How many there should be is decided by package
// policy; the last deletion of a runner that ended in order is the registrar's.
package reaper

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

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
	// Settle is how long a runner may take to learn of a step that was assigned to
	// it: where lists carry no steps, a disabled runner must have been idle, by its
	// own word, for so long. Default 35 s: it asks every 30 s.
	Settle time.Duration
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
	// failures are the passes that failed last time.
	failures map[any]failure
	// podless are the runners seen without a pod, by UUID.
	podless map[string]*sighting
	// drained: since when a list has shown a runner disabled, by UUID.
	drained map[string]time.Time
	// said are the groups that were told once why nothing is retired.
	said map[fleet.GroupKey]string
}

// failure delays the next pass over the same thing, so that what fails every time
// does not eat the hourly budget.
type failure struct {
	count int
	until time.Time
}

// maxDelay bounds the delay after failures.
const maxDelay = time.Minute

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
	if config.Settle == 0 {
		config.Settle = 35 * time.Second
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
		failures: map[any]failure{}, podless: map[string]*sighting{}, drained: map[string]time.Time{}, said: map[fleet.GroupKey]string{},
	}
}

// Run looks at every group and scope until ctx ends. Each has a pass of its own,
// so that a failure in one never holds up another.
func (r *Reaper) Run(ctx context.Context) error {
	defer r.passes.Wait()
	ticker := r.config.Clock.NewTicker(r.config.Interval)
	defer ticker.Stop()
	for {
		r.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (r *Reaper) look(ctx context.Context) {
	groups := r.config.Fleet.Groups()
	r.forget(groups)
	for _, group := range groups {
		if group, err := r.config.Fleet.Group(group.GroupKey); err == nil { // or nothing current is known, so nothing is done
			r.stopDrained(group)
			r.pass(ctx, group.GroupKey, func(ctx context.Context) error { return r.retire(ctx, group.GroupKey) })
		}
	}
	if r.config.Pods == nil {
		return
	}
	for scope, runners := range r.overdue(r.config.Fleet.Podless()) {
		r.pass(ctx, scope, func(ctx context.Context) error { return r.removeOrphans(ctx, scope, runners) })
	}
}

// pass runs one pass unless the last one over the same thing still runs, or
// failed a moment ago.
func (r *Reaper) pass(ctx context.Context, what any, do func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.running[what]; ok || r.config.Clock.Now().Before(r.failures[what].until) {
		return
	}
	r.running[what] = struct{}{}
	r.passes.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, r.config.PassTimeout)
		defer cancel()
		err := do(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn("pass failed, it is tried again", zap.Error(err))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.running, what)
		if err == nil {
			delete(r.failures, what)
			return
		}
		count := r.failures[what].count + 1
		delay := min(r.config.Interval<<min(count, 10), maxDelay)
		r.failures[what] = failure{count: count, until: r.config.Clock.Now().Add(delay)}
	})
}

// forget drops what is remembered of groups and failures that are no more.
func (r *Reaper) forget(groups []*fleet.Group) {
	present := map[fleet.GroupKey]struct{}{}
	for _, group := range groups {
		present[group.GroupKey] = struct{}{}
	}
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.said, func(key fleet.GroupKey, _ string) bool { _, ok := present[key]; return !ok })
	maps.DeleteFunc(r.failures, func(_ any, f failure) bool { return now.Sub(f.until) > maxDelay })
}
