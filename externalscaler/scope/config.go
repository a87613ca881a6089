package scope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/leader"
)

// Bitbucket is the client of one credentials set.
type Bitbucket interface {
	ResolveScope(ctx context.Context, scope bitbucket.Scope) (bitbucket.Scope, error)
	// CheckScope returns bitbucket.ErrNotFound if Bitbucket does not know the scope.
	CheckScope(ctx context.Context, scope bitbucket.Scope) error
	ListRunners(ctx context.Context, scope bitbucket.Scope) (bitbucket.RunnerList, error)
	ListRunnersInternally(ctx context.Context, scope bitbucket.Scope) (bitbucket.RunnerList, error)
	GetRunner(ctx context.Context, scope bitbucket.Scope, uuid string) (bitbucket.Runner, time.Time, error)
	CreateRunner(ctx context.Context, scope bitbucket.Scope, runner bitbucket.NewRunner) (bitbucket.Runner, error)
	DisableRunner(ctx context.Context, scope bitbucket.Scope, uuid string) error
	DeleteRunner(ctx context.Context, scope bitbucket.Scope, uuid string) error
}

// Pacer says how fast the scopes of one credentials set may be listed, so that its hourly
// budget lasts.
type Pacer interface {
	// Pace returns the factor, at least 1, by which the intervals between lists must be
	// longer than wanted. listsPerHour is what all scopes want together.
	Pace(listsPerHour float64) (factor float64)
	// Hurry reports whether a list may be read before its interval ends.
	Hurry() bool
}

// unpaced is the Pacer of a set whose lists need not be paced.
type unpaced struct{}

func (unpaced) Pace(float64) float64 { return 1 }
func (unpaced) Hurry() bool          { return true }

// Config is what a Set is made of.
type Config struct {
	// Owner is the label of the runners of this installation.
	Owner string
	// Client returns the client of a credentials set, or an error if there is no
	// such set or the namespace may not use it.
	Client func(credentials, namespace string) (Bitbucket, error)
	// Leadership says whether this process may write. Default leader.Alone.
	Leadership leader.Leadership
	// Store keeps scopes across restarts; nil if nothing need be kept.
	Store Store
	// PollInterval is the time between two lists of a scope; at least 10 s for
	// Bitbucket's sake (1,000 calls per hour), which the command line enforces.
	// Default 1 min.
	PollInterval time.Duration
	// Pacer returns the pacer of a credentials set; nil if lists need not be paced.
	Pacer func(credentials string) Pacer
	// RetryInterval is the time to the next list while none could be read yet, or
	// while a second one is awaited; and the least time between two lists,
	// regardless of who asks. Default 10 s.
	RetryInterval time.Duration
	// WriteSettle is how long Bitbucket may take until a list shows a write.
	// Default 30 s.
	WriteSettle time.Duration
	// ListTimeout bounds one whole list, all pages and retries. Default 1 min.
	ListTimeout time.Duration
	// IdleScope is the time after which a scope that no group asks for is dropped.
	// Default 10 min.
	IdleScope time.Duration
	// GoneAfter is how long Bitbucket must have answered that it does not know a scope
	// until that is believed. Default 10 min.
	GoneAfter time.Duration
	// KeepRegistered keeps a scope as long as runners of this installation are
	// registered in it, although no group asks for it.
	KeepRegistered bool
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
	def(&c.PollInterval, time.Minute)
	def(&c.RetryInterval, 10*time.Second)
	def(&c.WriteSettle, 30*time.Second)
	def(&c.ListTimeout, time.Minute)
	def(&c.IdleScope, 10*time.Minute)
	def(&c.GoneAfter, 10*time.Minute)
	if c.Leadership == nil {
		c.Leadership = leader.Alone{}
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Pacer == nil {
		c.Pacer = func(string) Pacer { return unpaced{} }
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
	if c.Client == nil {
		faults = append(faults, errors.New("client: missing"))
	}
	if c.PollInterval < 0 {
		faults = append(faults, fmt.Errorf("poll interval: %v, want a positive duration", c.PollInterval))
	}
	if c.WriteSettle < 0 {
		faults = append(faults, fmt.Errorf("write settle: %v, want a positive duration", c.WriteSettle))
	}
	return errors.Join(faults...)
}

// ours reports whether a runner is one of this installation.
func (c Config) ours(runner bitbucket.Runner) bool { return Owned(runner, c.Owner) }

// Owned reports whether a runner carries the owner label of an installation.
func Owned(runner bitbucket.Runner, owner string) bool {
	return slices.Contains(runner.Labels, owner)
}

// stretched is the time between two lists at that factor, in steps of a twelfth of
// PollInterval (5 s at the default), so that it does not change with every call.
func (c Config) stretched(factor float64) time.Duration {
	more := time.Duration(float64(c.PollInterval) * (factor - 1))
	step := max(c.PollInterval/12, 1)
	if rounded := more.Truncate(step); rounded < more {
		more = rounded + step
	}
	return c.PollInterval + more
}

// noticeable reports whether an interval is longer than PollInterval by more than a
// quarter. Less comes and goes with every burst of registrations.
func (c Config) noticeable(interval time.Duration) bool { return interval > c.PollInterval*5/4 }

// floor is the least time between two lists of a scope, regardless of who asks.
func (c Config) floor() time.Duration { return min(c.RetryInterval, c.PollInterval) }
