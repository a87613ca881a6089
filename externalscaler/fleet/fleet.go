package fleet

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// rebuildEvery bounds how long a change that only time brings (a runner lost, a
// list too old) stays unseen.
const rebuildEvery = time.Second

// Fleet is the observed runners and Jobs of all scopes. Safe for concurrent use.
type Fleet struct {
	config    Config
	telemetry *telemetry
	snapshot  atomic.Pointer[snapshot]
	dirty     chan struct{}
	// asked counts how often a new snapshot was asked for.
	asked atomic.Int64
	// reused counts the runners of ephemeral groups that took a second step.
	reused atomic.Int64

	mu      sync.Mutex
	changed chan struct{}
	scopes  map[scopeKey]*runningScope
	// called are the groups known from calls alone, without Kubernetes.
	called map[GroupKey]calledGroup
	// canonical are the scopes by credentials and UUIDs: a slug and a UUID are one.
	canonical map[scopeKey]*runningScope
	idle      map[string]time.Time // by runner UUID: idle since
	used      map[string]string    // by runner UUID: its last step, empty if it had no UUID
	poll      context.Context      //nolint:containedctx // the life of Run, which scopes found later must not outlive
	polls     sync.WaitGroup
}

type scopeKey struct {
	credentials string
	scope       bitbucket.Scope
}

type runningScope struct {
	*Scope
	cancel context.CancelFunc
	// alias is the scope that stands for the same UUIDs, if it is not this one.
	alias *runningScope
}

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
		config: config, telemetry: newTelemetry(), dirty: make(chan struct{}, 1), changed: make(chan struct{}),
		scopes: map[scopeKey]*runningScope{}, canonical: map[scopeKey]*runningScope{}, called: map[GroupKey]calledGroup{}, idle: map[string]time.Time{},
	}
	f.snapshot.Store(&snapshot{})
	return f, nil
}

// Run keeps the snapshot current until ctx ends, and then waits for its polls.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	f.mu.Lock()
	f.poll = ctx
	f.mu.Unlock()
	if f.config.Places != nil {
		f.polls.Go(func() { f.keepPlaces(ctx) })
	}
	defer f.polls.Wait()
	defer cancel()
	ticker := f.config.Clock.NewTicker(rebuildEvery)
	defer ticker.Stop()
	for {
		f.rebuild()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		case <-f.dirty:
		}
	}
}

// Changed asks for a new snapshot: something in Kubernetes is no longer as it was.
func (f *Fleet) Changed() {
	f.asked.Add(1)
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

// Sync waits for a snapshot that shows all that was known when it was called.
func (f *Fleet) Sync(ctx context.Context) error {
	asked := f.asked.Load()
	for {
		wait := f.Wait()
		if f.snapshot.Load().served >= asked {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a snapshot: %w", ctx.Err())
		case <-wait:
		}
	}
}

// Wait gives a channel that is closed when the next snapshot stands.
func (f *Fleet) Wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}
