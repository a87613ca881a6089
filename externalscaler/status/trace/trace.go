// Package trace exports one OpenTelemetry trace per runner: what its Job waited for until the
// runner was online, each step that it ran, and how it ended. It only reads the fleet's
// snapshots, and it is made only if traces are wanted. Package otlp decides where they go.
//
// The root span of a runner is exported when its Job has ended, the spans of its start when it
// is online, and the span of a step when the step has ended. The ids of the trace and of its
// root span follow from the Job's UID, so a new leader continues the trace of the one before.
// What happened before a leader looked is left out, and the root span says so.
package trace

import (
	"context"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// scope is the instrumentation scope of all spans of this package.
const scope = "bitbucket-runner-scaler/externalscaler/status/trace"

// mostRunners bounds the runners that are followed at once. Others get no trace.
const mostRunners = 10_000

// Fleet provides the observed groups and runners.
type Fleet interface {
	// Observed returns the groups with a snapshot, and why others have none.
	Observed() (valid []*fleet.GroupSnapshot, faulty map[fleet.GroupKey]error)
	// OrphanedPods are the pods that belong to no group any more.
	OrphanedPods() []fleet.Member
	// Wait returns a channel that is closed when the next snapshot is in place.
	Wait() <-chan struct{}
}

// Decisions knows how many runners each group should have.
type Decisions interface {
	Decide(key fleet.GroupKey) (policy.Decision, error)
}

// Queue knows the names of steps.
type Queue interface {
	Look() ([]queue.LivePipeline, []queue.RepositorySight)
}

// Config configures a Tracer.
type Config struct {
	Provider  oteltrace.TracerProvider
	Fleet     Fleet
	Decisions Decisions
	Queue     Queue
	Clock     clock.PassiveClock
}

// Tracer follows runners and exports their traces.
type Tracer struct {
	config Config
	tracer oteltrace.Tracer
	calls  *calls
}

// New returns a Tracer. Run follows the runners, and ServerOptions trace KEDA's calls.
func New(config Config) *Tracer {
	return &Tracer{config: config, tracer: config.Provider.Tracer(scope), calls: newCalls()}
}

// Run follows the runners until ctx ends. Call it while this process leads: what it remembers
// ends with it, and the next leader continues.
func (t *Tracer) Run(ctx context.Context) {
	following := &following{Tracer: t, lives: map[string]*life{}, byPod: map[string]string{}}
	for {
		next := t.config.Fleet.Wait()
		following.look()
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

// following is the work of one term as leader.
type following struct {
	*Tracer
	lives map[string]*life  // by the Job's UID
	byPod map[string]string // the Job's UID by that of its pod
}

// look takes what the current snapshot shows.
func (f *following) look() {
	valid, faulty, orphaned := f.observe()
	now := f.config.Clock.Now()
	names := &names{queue: f.config.Queue}
	alive, failed := map[string]struct{}{}, map[string]*fleet.Failure{}
	known := map[fleet.GroupKey]struct{}{}
	for _, group := range valid {
		known[group.GroupKey] = struct{}{}
		for i := range group.Members {
			m := &group.Members[i]
			if m.Job == nil {
				continue // a runner without Kubernetes
			}
			alive[m.Job.UID] = struct{}{}
			if l := f.life(group, m, now); l != nil {
				f.see(l, m, now, names)
			}
		}
		for i := range group.Failed {
			failed[group.Failed[i].UID] = group.Failed[i].Failed
		}
	}
	for i := range orphaned {
		uid, followed := f.byPod[orphaned[i].Pod.UID]
		if followed {
			alive[uid] = struct{}{}
			f.see(f.lives[uid], &orphaned[i], now, names)
		}
	}
	for uid, l := range f.lives {
		_, lives := alive[uid]
		_, hidden := faulty[l.group]
		if lives || hidden { // the Jobs of a faulty group are in no snapshot
			continue
		}
		f.end(l, failed[uid], now)
		delete(f.lives, uid)
		delete(f.byPod, l.pod.UID)
	}
	for key := range faulty {
		known[key] = struct{}{}
	}
	f.calls.keep(known)
}

// observe reads one snapshot.
func (f *following) observe() (valid []*fleet.GroupSnapshot, faulty map[fleet.GroupKey]error, orphaned []fleet.Member) {
	for {
		at := f.config.Fleet.Wait()
		orphaned = f.config.Fleet.OrphanedPods()
		valid, faulty = f.config.Fleet.Observed()
		if at == f.config.Fleet.Wait() {
			return valid, faulty, orphaned
		}
	}
}

// life returns what is remembered of a member, and begins to follow it if it is new. It returns
// nil for one that is not followed.
func (f *following) life(group *fleet.GroupSnapshot, m *fleet.Member, now time.Time) *life {
	l, ok := f.lives[m.Job.UID]
	if !ok {
		// Before the first list it is not known how far the runner has come.
		if group.ListBegun.IsZero() || len(f.lives) >= mostRunners {
			return nil
		}
		l = f.begin(group, m, now)
		f.lives[m.Job.UID] = l
	}
	if m.Pod != nil {
		f.byPod[m.Pod.UID] = m.Job.UID
	}
	return l
}
