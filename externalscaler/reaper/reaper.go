// Package reaper takes runners away: the surplus of a group, those that had their
// one step, the outdated, the lost, those of pods that end, the Jobs that never
// came to anything, and our runners that have no pod left. A runner with a pod is
// disabled, read again, and told to end only when a witness says that it has no
// step: what is not known counts as busy.
//
// The rules of who may be ended are pure functions in rules.go and renewal.go; the
// rest of the package looks, remembers and carries out. How many runners there
// should be is decided by package policy; the deletion of a runner that ended in
// order is the registrar's.
package reaper

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/pause"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// Reaper removes runners that are no longer wanted, or no longer there.
type Reaper struct {
	config Config
	log    *zap.Logger

	passes sync.WaitGroup
	mu     sync.Mutex
	rules  rules // with its memory
	// running are the groups and scopes whose pass has not ended yet.
	running map[any]struct{}
	// tended is each group as it was when its last pass began. Until it is another one, nothing new
	// is known of it.
	tended map[fleet.GroupKey]*fleet.GroupSnapshot
	// swept is when runners without a pod were last looked for.
	swept time.Time
	// failures are the passes that failed last time.
	failures map[any]failure
	// podless are the runners seen without a pod, by UUID.
	podless map[string]*sighting
	// stored is what was loaded or stored last of podless, and storedAt when that was begun.
	stored   map[string]time.Time
	storedAt time.Time
	// loaded is what an earlier leader stored and this process has not seen to end, and
	// loadedAt when it was read.
	loaded   map[string]time.Time
	loadedAt time.Time
	// rechecked is when each drained runner was last rechecked, by UUID.
	rechecked map[string]time.Time
	// waits is when Jobs of each group were last seen to wait, by the cause's reason, and
	// loops when an Event last said that its Jobs keep failing.
	waits map[saidKey]time.Time
	loops map[fleet.GroupKey]time.Time
	// said is what the users of each group were told last, by reason.
	said map[saidKey]string
}

// failure delays the next pass over the same thing, so that what fails every time
// does not use up the hourly budget.
type failure struct {
	count int
	until time.Time
}

// maxDelay bounds the delay after failures.
const maxDelay = time.Minute

// sweepInterval is the least time between two looks for runners without a pod: their grace is minutes.
const sweepInterval = time.Second

// leastInterval is the least time between two looks, however fast the fleet changes.
const leastInterval = 20 * time.Millisecond

// New makes a Reaper.
func New(config Config) *Reaper {
	config = config.withDefaults()
	return &Reaper{
		config: config, log: config.Logger,
		rules:   rules{Limits: config.Limits, memory: newMemory(2*config.Interval + time.Second)},
		running: map[any]struct{}{}, tended: map[fleet.GroupKey]*fleet.GroupSnapshot{}, failures: map[any]failure{},
		podless: map[string]*sighting{}, rechecked: map[string]time.Time{}, said: map[saidKey]string{}, waits: map[saidKey]time.Time{}, loops: map[fleet.GroupKey]time.Time{},
	}
}

// Run looks at every group and scope until ctx ends. Each has a pass of its own,
// so that a failure in one never holds up another.
func (r *Reaper) Run(ctx context.Context) error {
	defer r.passes.Wait()
	r.load(ctx)
	for {
		changed := r.config.Snapshots.Wait()
		r.look(ctx)
		if !pause.For(ctx, r.config.Clock, leastInterval, nil) || !pause.For(ctx, r.config.Clock, r.config.Interval, changed) {
			return nil
		}
	}
}

// orphanedKey names the pass over a scope's pods without a group.
type orphanedKey struct{ scope.ID }

func (r *Reaper) look(ctx context.Context) {
	groups, orphaned := r.config.Snapshots.Groups(), r.config.Snapshots.OrphanedPods()
	for _, group := range groups {
		if r.tended[group.GroupKey] != group && r.tendOrEnd(ctx, group) {
			r.tended[group.GroupKey] = group
		}
	}
	scopes := map[scope.ID]struct{}{}
	for _, m := range orphaned {
		if m.Terminating() && m.State != fleet.Gone {
			scopes[m.Scope] = struct{}{}
		}
	}
	for id := range scopes {
		r.pass(ctx, orphanedKey{id}, func(ctx context.Context) error { return r.release(ctx, id) })
	}
	now := r.config.Clock.Now()
	if now.Sub(r.swept) < sweepInterval {
		return
	}
	r.swept = now
	r.forget(groups, orphaned)
	if r.config.Pods == nil {
		return
	}
	for id, runners := range r.overdue(r.config.Snapshots.Podless()) {
		r.pass(ctx, id, func(ctx context.Context) error { return r.removeOrphans(ctx, runners) })
	}
	r.store(ctx)
}

// decide asks the rules, whose memory is shared by all passes.
func (r *Reaper) decide(ask func(rules) []action) []action {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ask(r.rules)
}

// sightOf looks at a group as it is now, after all that was done before shows; nil
// if nothing current is known.
func (r *Reaper) sightOf(ctx context.Context, key fleet.GroupKey) (*sight, error) {
	if err := r.config.Snapshots.Sync(ctx); err != nil {
		return nil, err
	}
	group, err := r.config.Snapshots.Group(key)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // nothing is done; the fleet says why
	}
	s := sight{now: r.config.Clock.Now(), group: group, members: group.Members}
	r.decide(func(rules rules) []action { rules.observe(s); return nil })
	return &s, nil
}

// tend does for one group what is due: first what is urgent, then what may wait.
// The last three rules count who stays online, so each needs a snapshot that shows
// what the one before has done, and the pass ends with the first that does
// anything.
func (r *Reaper) tend(ctx context.Context, key fleet.GroupKey) error {
	s, err := r.sightOf(ctx, key)
	if err != nil || s == nil {
		return err
	}
	r.sayUnrecognized(s.group)
	r.sayStretched(s.group)
	r.sayWaiting(*s)
	r.sayCrashLoop(*s)
	about := of(s.group)
	draining := r.decide(func(rules rules) []action { return rules.drainTerminating(*s) })
	failed := r.performAll(ctx, about, draining)
	if rechecked := r.recheckDrained(ctx, s.members); rechecked || len(draining) > 0 {
		if s, err = r.sightOf(ctx, key); err != nil || s == nil {
			return errors.Join(failed, err)
		}
	}
	errs := []error{failed}
	due := r.decide(func(rules rules) []action {
		due := append(rules.stopDrained(*s), rules.endLost(*s)...)
		due = append(due, rules.endSilent(*s)...)
		due = append(due, rules.endForgotten(*s)...)
		return append(due, rules.endStuck(*s)...)
	})
	failed = r.performAll(ctx, about, due)
	errs = append(errs, failed)
	decision, err := r.config.Decider.Decide(key)
	if err != nil {
		return errors.Join(errs...)
	}
	due = r.decide(func(rules rules) []action {
		rules.observeUnwanted(*s, decision)
		return rules.endUnwanted(*s, decision, r.config.Interval)
	})
	failed = r.performAll(ctx, about, due)
	return errors.Join(append(errs, failed, r.retire(ctx, *s, decision))...)
}

// retire carries out the first of the rules that finds something to do about who
// stays online.
func (r *Reaper) retire(ctx context.Context, s sight, d policy.Decision) error {
	if s.group.Hold != "" {
		r.say(of(s.group), ReasonScaleDownHeld, "", s.group.Hold)
	}
	var errs []error
	for _, rule := range retirements {
		acted, err := r.performWhileSupported(ctx, of(s.group), r.decide(func(rules rules) []action { return rule(rules, s, d) }))
		errs = append(errs, err)
		if acted {
			break
		}
	}
	return errors.Join(errs...)
}

// release drains the pods of a scope that no group is left for.
func (r *Reaper) release(ctx context.Context, in scope.ID) error {
	namespaces, err := r.orphanedIn(ctx, in)
	if err != nil {
		return err
	}
	var errs []error
	for namespace, s := range namespaces {
		failed := r.performAll(ctx, withoutGroup(namespace), r.decide(func(rules rules) []action { return rules.drainTerminating(s) }))
		errs = append(errs, failed)
		r.recheckDrained(ctx, s.members)
	}
	if namespaces, err = r.orphanedIn(ctx, in); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for namespace, s := range namespaces {
		failed := r.performAll(ctx, withoutGroup(namespace), r.decide(func(rules rules) []action { return rules.stopDrained(s) }))
		errs = append(errs, failed)
	}
	return errors.Join(errs...)
}

// orphanedIn looks at the pods of a scope without a group, by namespace.
func (r *Reaper) orphanedIn(ctx context.Context, in scope.ID) (map[string]sight, error) {
	if err := r.config.Snapshots.Sync(ctx); err != nil {
		return nil, err
	}
	found := map[string]sight{}
	for _, m := range r.config.Snapshots.OrphanedPods() {
		if m.Scope == in && m.Terminating() && m.State != fleet.Gone {
			s := found[m.Pod.Namespace]
			s.now, s.members = r.config.Clock.Now(), append(s.members, m)
			found[m.Pod.Namespace] = s
		}
	}
	r.decide(func(rules rules) []action {
		for _, s := range found {
			rules.observe(s)
		}
		return nil
	})
	return found, nil
}

// pass begins one pass. It returns false if the last one over the same thing still runs, or
// failed a moment ago.
func (r *Reaper) pass(ctx context.Context, what any, do func(context.Context) error) (begun bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.running[what]; ok || r.config.Clock.Now().Before(r.failures[what].until) {
		return false
	}
	r.running[what] = struct{}{}
	r.passes.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, r.config.PassTimeout)
		defer cancel()
		err := do(ctx)
		if errors.Is(err, scope.ErrNotWritable) {
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
	return true
}

// forget drops what is remembered of what is no more.
func (r *Reaper) forget(groups []*fleet.GroupSnapshot, orphaned []fleet.Member) {
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
	remember(orphaned)
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules.memory.forget(uuids, now)
	maps.DeleteFunc(r.waits, func(_ saidKey, last time.Time) bool { return now.Sub(last) > waitMemory })
	maps.DeleteFunc(r.loops, func(key fleet.GroupKey, _ time.Time) bool { _, ok := present[key]; return !ok })
	maps.DeleteFunc(r.said, func(key saidKey, _ string) bool { _, ok := present[key.group]; return !ok })
	maps.DeleteFunc(r.tended, func(key fleet.GroupKey, _ *fleet.GroupSnapshot) bool { _, ok := present[key]; return !ok })
	maps.DeleteFunc(r.failures, func(_ any, f failure) bool { return now.Sub(f.until) > maxDelay })
	maps.DeleteFunc(r.rechecked, func(uuid string, _ time.Time) bool { _, ok := uuids[uuid]; return !ok })
}
