package fleet

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// Times after which a runner counts for less.
const (
	// StartLimit is how long a runner may take to come ONLINE before it is lost.
	StartLimit = 10 * time.Minute
	// LostAfter is how long a runner may be OFFLINE or UNHEALTHY before it is lost.
	LostAfter = 5 * time.Minute
)

// Scopes are the scopes that runners are registered in.
type Scopes interface {
	// Views returns what is known of each scope in use.
	Views() scope.Views
	// Use notes which scopes are asked for; others are dropped after a while.
	Use(wanted []scope.Wanted)
	// DistrustSteps notes that a list lacks a step that there is.
	DistrustSteps(id scope.ID, listBegun time.Time)
}

// Queue is the steps that wait for runners.
type Queue interface {
	// Snapshot returns what is known of them.
	Snapshot() *queue.Snapshot
	// Use takes which groups there are, and what their runners report.
	Use(demand queue.Demand)
}

// Measures takes how long runners and snapshots take.
type Measures interface {
	// CameOnline takes the time from the creation of a Job until its runner was online.
	CameOnline(key GroupKey, took time.Duration)
	// StepRan takes how long a runner ran a step.
	StepRan(key GroupKey, took time.Duration)
	// Rebuilt takes how long it took to make a snapshot.
	Rebuilt(took time.Duration)
}

// unmeasured is the Measures of a Fleet that nobody measures.
type unmeasured struct{}

func (unmeasured) CameOnline(GroupKey, time.Duration) {}
func (unmeasured) StepRan(GroupKey, time.Duration)    {}
func (unmeasured) Rebuilt(time.Duration)              {}

// Config is what a Fleet is made of.
type Config struct {
	// Owner is the label of the runners of this installation.
	Owner  string
	Scopes Scopes
	// Admit returns an error unless a group may use its credentials set for its
	// scope and labels.
	Admit func(key GroupKey, spec runnergroup.Group) error
	// MayPoll returns an error unless a namespace may use the credentials set for the
	// scope. It is asked before a scope is polled that only a sidecar names.
	MayPoll func(namespace string, id scope.ID) error
	// Kubernetes is the cluster; nil if the scaler runs without one and knows runner
	// groups from KEDA's calls alone.
	Kubernetes Kubernetes
	// Queue knows the steps that wait; nil if nobody reads it.
	Queue Queue
	// Measures takes how long runners and snapshots take; nil if nobody asks.
	Measures Measures
	// MaxStaleness is the age up to which a snapshot is acted on; never less than
	// three poll intervals. Default 3 min.
	MaxStaleness time.Duration
	// RebuildInterval is the least time between two snapshots: reports that arrive
	// together are shown together. Default 50 ms; negative for none.
	RebuildInterval time.Duration
	// StartLimit and LostAfter are the constants of these names unless set.
	StartLimit, LostAfter time.Duration
	// MaxScopes bounds the scopes known without Kubernetes. Default 50.
	MaxScopes int
	// CallMemory is the time after which a group that is known from calls alone is
	// forgotten if KEDA has not called for it again. Default 10 min.
	CallMemory time.Duration
	// Clock is the time; the real one unless set.
	Clock clock.WithTicker
	// Logger takes what happens; discarded unless set.
	Logger *zap.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.MaxStaleness, 3*time.Minute)
	def(&c.RebuildInterval, 50*time.Millisecond)
	def(&c.StartLimit, StartLimit)
	def(&c.LostAfter, LostAfter)
	def(&c.CallMemory, 10*time.Minute)
	if c.MaxScopes == 0 {
		c.MaxScopes = 50
	}
	if c.Admit == nil {
		c.Admit = func(GroupKey, runnergroup.Group) error { return nil }
	}
	if c.Measures == nil {
		c.Measures = unmeasured{}
	}
	if c.MayPoll == nil {
		c.MayPoll = func(string, scope.ID) error { return nil }
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var faults []error
	if c.Owner == "" {
		faults = append(faults, errors.New("owner label: empty, want keda.<cluster>"))
	}
	if c.Scopes == nil {
		faults = append(faults, errors.New("scopes: missing"))
	}
	if c.MaxStaleness < 0 {
		faults = append(faults, fmt.Errorf("max staleness: %v, want a positive duration", c.MaxStaleness))
	}
	return errors.Join(faults...)
}

// staleAfter is the age from which a list of a scope with that poll interval is too old
// to act on.
func (c Config) staleAfter(interval time.Duration) time.Duration {
	return max(c.MaxStaleness, 3*interval)
}
