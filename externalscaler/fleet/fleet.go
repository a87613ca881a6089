package fleet

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket-runner-scaler/externalscaler/pause"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// rebuildEvery bounds how long a change that only time brings (a runner lost, a
// list too old) stays unseen.
const rebuildEvery = time.Second

// Fleet is the observed runners and Jobs of all scopes. Safe for concurrent use.
type Fleet struct {
	config    Config
	telemetry *telemetry
	current   atomic.Pointer[snapshot]
	dirty     chan struct{}
	// requested counts how often a new snapshot was asked for.
	requested atomic.Int64
	// reused counts the runners of ephemeral groups that took a second step.
	reused atomic.Int64

	mu   sync.Mutex
	next chan struct{} // closed when the next snapshot is in place
	// called are the groups known from calls alone, without Kubernetes.
	called map[GroupKey]calledGroup
	// history is of the snapshot before; read and written by rebuild alone.
	history history
}

// calledGroup is a group that KEDA called for.
type calledGroup struct {
	spec runnergroup.Group
	at   time.Time
}

// New makes a Fleet; Run makes it live. The error lists every fault of config.
func New(config Config) (*Fleet, error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	f := &Fleet{
		config: config, telemetry: newTelemetry(), dirty: make(chan struct{}, 1), next: make(chan struct{}),
		called: map[GroupKey]calledGroup{},
	}
	f.current.Store(&snapshot{grouping: &grouping{}})
	return f, nil
}

// Run keeps the snapshot current until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	ticker := f.config.Clock.NewTicker(rebuildEvery)
	defer ticker.Stop()
	for {
		begun := f.config.Clock.Now()
		f.rebuild()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			f.history.forgetMembers()
		case <-f.dirty:
		}
		if !pause.For(ctx, f.config.Clock, f.config.RebuildInterval-f.config.Clock.Since(begun), nil) {
			return nil
		}
	}
}

// rebuild makes the next snapshot and passes on what building it found out.
func (f *Fleet) rebuild() {
	begun := f.config.Clock.Now()
	in := f.read()
	next, found := f.config.build(in)
	// A list that was found to lack a step must not be believed by the snapshot that
	// found it.
	for known := 0; len(found.distrusted) > known; {
		known = len(found.distrusted)
		for _, d := range found.distrusted {
			f.config.Scopes.DistrustSteps(d.ID, d.listBegun)
		}
		in.views = f.config.Scopes.Views()
		next, found = f.config.build(in)
	}
	f.config.Scopes.Use(found.wanted)
	if f.config.Queue != nil {
		f.config.Queue.Use(found.demand)
	}
	f.telemetry.keep(next.live)
	f.reused.Add(found.reused)
	f.history = found.history
	f.config.Measures.Rebuilt(f.config.Clock.Since(begun))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current.Store(next)
	close(f.next)
	f.next = make(chan struct{})
}

// read collects what a snapshot is built from.
func (f *Fleet) read() input {
	in := input{now: f.config.Clock.Now(), requested: f.requested.Load(), history: f.history}
	// The queue first: it then knows no report that the rest does not.
	if f.config.Queue != nil {
		in.queue = f.config.Queue.Snapshot()
	}
	if k := f.config.Kubernetes; k != nil {
		// Jobs first: a pod that they show is then among the pods, or has ended.
		in.jobs, in.pods, in.scaledJobs = k.Jobs(), k.Pods(), k.ScaledJobs()
	} else {
		f.mu.Lock()
		maps.DeleteFunc(f.called, func(_ GroupKey, c calledGroup) bool { return in.now.Sub(c.at) > f.config.CallMemory })
		in.called = maps.Clone(f.called)
		f.mu.Unlock()
	}
	in.reports, in.views = f.telemetry.all(), f.config.Scopes.Views()
	return in
}

// Changed asks for a new snapshot, because a source of it has changed.
func (f *Fleet) Changed() {
	f.requested.Add(1)
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

// Sync waits for a snapshot that shows all that was known when it was called.
func (f *Fleet) Sync(ctx context.Context) error {
	requested := f.requested.Load()
	for {
		wait := f.Wait()
		if f.current.Load().requested >= requested {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a snapshot: %w", ctx.Err())
		case <-wait:
		}
	}
}

// Wait returns a channel that is closed when the next snapshot is in place.
func (f *Fleet) Wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}
