// Package reaper takes runners away: the surplus of a group, those that had their
// one step, the outdated, the lost, those of pods that end, the Jobs that never
// came to anything, and runners of ours that no pod is left for. However it comes
// to that, a runner is disabled, looked at again, and told to end only when a
// witness says that it has no step: what is not known counts as busy. How many
// there should be is decided by package policy; the deletion of a runner that
// ended in order is the registrar's.
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
	// Drain tells it that its runner was disabled, for its log.
	Drain(podUID, reason string)
}

// Pods reads the runner pods live, not from a cache: a watch that lags must
// never make a runner look like an orphan.
type Pods interface {
	LivePods(ctx context.Context) ([]fleet.Pod, error)
}

// Jobs ends Jobs that nothing else would end.
type Jobs interface {
	// DeleteJob deletes the Job of that UID and its pod; one that is gone counts as
	// deleted.
	DeleteJob(ctx context.Context, namespace, name, uid string) error
}

// Events tells the users of a ScaledJob what was done and why.
type Events interface {
	Event(group fleet.GroupKey, uid, reason, message string)
}

// Config is what a Reaper is made of.
type Config struct {
	Fleet    *fleet.Fleet
	Decider  Decider
	Sidecars Sidecars
	// Pods and Jobs are nil where there is no Kubernetes: then nothing is ever an
	// orphan, and no Job is deleted.
	Pods   Pods
	Jobs   Jobs
	Events Events
	// Interval between two looks at the latest; each change of the fleet brings one.
	// Default 2 s.
	Interval time.Duration
	// OrphanGrace is how long a runner must have been without a pod in this
	// process's own sight. Default 5 min.
	OrphanGrace time.Duration
	// LostAfter is the same for one that is DISABLED where lists show no steps.
	// Default 5 min.
	LostAfter time.Duration
	// Settle is how long a runner may take to learn of a step that was assigned to
	// it: where lists carry no steps, a disabled runner must have been idle, by its
	// own word, for so long. Default 35 s: it asks every 30 s.
	Settle time.Duration
	// LostSight is how long, and over two lists at least, a runner must have looked
	// lost in this process's own sight: after an outage of Bitbucket's all do for a
	// moment. Default 1 min.
	LostSight time.Duration
	// StartLimit is how long a Job may go without asking for a runner, once it has a
	// node, and one told to end may take to do so. Default 10 min.
	StartLimit time.Duration
	// DetachedLimit is how long a sidecar must have been silent until its idle and
	// disabled runner is ended by deleting the Job. Default 2 min.
	DetachedLimit time.Duration
	// PassTimeout bounds one pass over a group or a scope. Default 60 s.
	PassTimeout time.Duration
	// DryRun only says what would be done. Pods that are being deleted are still
	// drained: they end anyhow, and busy ones must not.
	DryRun bool
	// UnsafeScaleDown retires idle runners even where Bitbucket cannot disable
	// them: one that takes a step in that moment loses it.
	UnsafeScaleDown bool
	// Count is called once for each removal, with its reason.
	Count  func(reason string)
	Clock  clock.WithTicker
	Logger *zap.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Interval, 2*time.Second)
	def(&c.OrphanGrace, 5*time.Minute)
	def(&c.LostAfter, fleet.LostAfter)
	def(&c.Settle, 35*time.Second)
	def(&c.LostSight, time.Minute)
	def(&c.StartLimit, fleet.StartLimit)
	def(&c.DetachedLimit, 2*time.Minute)
	def(&c.PassTimeout, time.Minute)
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Count == nil {
		c.Count = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// Reaper removes runners that are no longer wanted, or no longer there.
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
	// watched are the things that something is done about only once they have lasted.
	watched map[watchKey]*watched
	// leaving are the runners that were disabled, by UUID, and why.
	leaving map[string]leaving
	// glanced is when each drained runner was last looked at, by UUID.
	glanced map[string]time.Time
	// said is what the users of each group were told last, by reason.
	said map[saidKey]string
}

// failure delays the next pass over the same thing, so that what fails every time
// does not eat the hourly budget.
type failure struct {
	count int
	until time.Time
}

// maxDelay bounds the delay after failures.
const maxDelay = time.Minute

// leastInterval is the least time between two looks, however fast the fleet changes.
const leastInterval = 20 * time.Millisecond

// New makes a Reaper.
func New(config Config) *Reaper {
	config = config.withDefaults()
	return &Reaper{
		config: config, log: config.Logger, running: map[any]struct{}{}, failures: map[any]failure{},
		podless: map[string]*sighting{}, watched: map[watchKey]*watched{}, leaving: map[string]leaving{}, glanced: map[string]time.Time{}, said: map[saidKey]string{},
	}
}

// Run looks at every group and scope until ctx ends. Each has a pass of its own,
// so that a failure in one never holds up another.
func (r *Reaper) Run(ctx context.Context) error {
	defer r.passes.Wait()
	for {
		changed := r.config.Fleet.Wait()
		r.look(ctx)
		if !r.sleep(ctx, leastInterval, nil) || !r.sleep(ctx, r.config.Interval, changed) {
			return nil
		}
	}
}

// sleep waits; false if ctx ended. It is cut short by changed.
func (r *Reaper) sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	timer := r.config.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C():
	}
	return true
}

// looseKey names the pass over a scope's pods without a group.
type looseKey struct{ scope *fleet.Scope }

func (r *Reaper) look(ctx context.Context) {
	groups, loose := r.config.Fleet.Groups(), r.config.Fleet.Loose()
	r.forget(groups, loose)
	for _, group := range groups {
		if _, err := r.config.Fleet.Group(group.GroupKey); err == nil { // or nothing current is known, so nothing is done
			r.pass(ctx, group.GroupKey, func(ctx context.Context) error { return r.tend(ctx, group.GroupKey) })
		}
	}
	scopes := map[*fleet.Scope][]fleet.Member{}
	for _, m := range loose {
		if m.Terminating() && m.State != fleet.Gone {
			scopes[m.Scope] = append(scopes[m.Scope], m)
		}
	}
	for scope, members := range scopes {
		r.pass(ctx, looseKey{scope}, func(ctx context.Context) error { return r.release(ctx, members) })
	}
	if r.config.Pods == nil {
		return
	}
	for scope, runners := range r.overdue(r.config.Fleet.Podless()) {
		r.pass(ctx, scope, func(ctx context.Context) error { return r.removeOrphans(ctx, scope, runners) })
	}
}

// tend does for one group what is due: first what is urgent, then what may wait.
// The last three count who stays online, so each needs a snapshot that shows what
// the one before has done, and the pass ends with the first that does anything.
func (r *Reaper) tend(ctx context.Context, key fleet.GroupKey) error {
	if err := r.config.Fleet.Sync(ctx); err != nil {
		return err
	}
	group, err := r.config.Fleet.Group(key)
	if err != nil {
		return nil //nolint:nilerr // nothing current is known, so nothing is done; the fleet says why
	}
	r.tellUnrecognized(group)
	errs := []error{r.drain(ctx, of(group), group.Members)}
	r.stopDrained(ctx, of(group), group.Members)
	errs = append(errs, r.endLost(ctx, group), r.endForgotten(ctx, group), r.endStuck(ctx, group))
	decision, err := r.config.Decider.Decide(key)
	if err != nil {
		return errors.Join(errs...)
	}
	errs = append(errs, r.endUnwanted(ctx, group, decision))
	for _, rule := range []func(context.Context, *fleet.Group, policy.Decision) (bool, error){r.spend, r.retire, r.renew} {
		acted, err := rule(ctx, group, decision)
		errs = append(errs, err)
		if acted {
			break
		}
	}
	return errors.Join(errs...)
}

// release drains the pods that no group is left for.
func (r *Reaper) release(ctx context.Context, members []fleet.Member) error {
	namespaces := map[string][]fleet.Member{}
	for _, m := range members {
		namespaces[m.Pod.Namespace] = append(namespaces[m.Pod.Namespace], m)
	}
	errs := make([]error, 0, len(namespaces))
	for namespace, members := range namespaces {
		s := subject{GroupKey: fleet.GroupKey{Namespace: namespace}}
		errs = append(errs, r.drain(ctx, s, members))
		r.stopDrained(ctx, s, members)
	}
	return errors.Join(errs...)
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
		if errors.Is(err, fleet.ErrNotWritable) {
			err = nil // so it is for every group, and ends by itself
		}
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

// forget drops what is remembered of what is no more.
func (r *Reaper) forget(groups []*fleet.Group, loose []fleet.Member) {
	present, uuids := map[fleet.GroupKey]struct{}{}, map[string]struct{}{}
	remember := func(members []fleet.Member) {
		for _, m := range members {
			if m.Runner != nil {
				uuids[m.Runner.UUID] = struct{}{}
			}
		}
	}
	for _, group := range groups {
		present[group.GroupKey] = struct{}{}
		remember(group.Members)
	}
	remember(loose)
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.said, func(key saidKey, _ string) bool { _, ok := present[key.group]; return !ok })
	maps.DeleteFunc(r.failures, func(_ any, f failure) bool { return now.Sub(f.until) > maxDelay })
	maps.DeleteFunc(r.watched, func(_ watchKey, w *watched) bool { return now.Sub(w.last) > watchMemory })
	maps.DeleteFunc(r.glanced, func(uuid string, _ time.Time) bool { _, ok := uuids[uuid]; return !ok })
	maps.DeleteFunc(r.leaving, func(uuid string, _ leaving) bool { _, ok := uuids[uuid]; return !ok })
}
