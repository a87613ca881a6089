package fleet

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// Times after which a runner counts for less, from the design's words.
const (
	// StartLimit is how long a runner may take to come ONLINE before it is lost.
	StartLimit = 10 * time.Minute
	// LostAfter is how long a runner may be OFFLINE or UNHEALTHY before it is lost.
	LostAfter = 5 * time.Minute
)

// Config is what a Fleet is made of.
type Config struct {
	// Owner is the label of the runners of this installation.
	Owner string
	// Client gives the client of a credentials set, if the namespace may use it.
	Client func(credentials, namespace string) (Bitbucket, error)
	// Allow says whether a group may use its credentials set for its scope and labels;
	// nil where Client's word is enough. Scopes where runners are left are not asked for.
	Allow func(key GroupKey, spec runnergroup.Group) error
	// Kubernetes is the cluster; nil where the scaler runs without one and knows
	// runner groups from KEDA's calls alone.
	Kubernetes Kubernetes
	// Tenure says whether this process may write; nil where it is the only one.
	Tenure Tenure
	// Places keeps scopes across restarts; nil where nothing need be kept.
	Places Places
	// PollInterval is the time between two lists of a scope; at least 10 s for
	// Bitbucket's sake (1,000 calls an hour), which the command line enforces.
	PollInterval time.Duration
	// RetryInterval is the time to the next list while none could be read yet, or
	// while a second one is awaited; and the least time between two lists, whoever
	// asks. Default 10 s.
	RetryInterval time.Duration
	// MaxStaleness is the age up to which a snapshot is acted on; never less than
	// three poll intervals.
	MaxStaleness time.Duration
	// WriteSettle is how long Bitbucket may take until a list shows a write.
	WriteSettle time.Duration
	// StartLimit and LostAfter are those above unless set.
	StartLimit, LostAfter time.Duration
	// ListTimeout bounds one whole list, all pages and retries. Default 60 s.
	ListTimeout time.Duration
	// MaxScopes bounds the scopes known without Kubernetes. Default 50.
	MaxScopes int
	// IdleScope is after what time a scope that no group asks for is dropped.
	// Default 10 min.
	IdleScope time.Duration
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
	def(&c.MaxStaleness, 3*time.Minute)
	def(&c.WriteSettle, 30*time.Second)
	def(&c.StartLimit, StartLimit)
	def(&c.LostAfter, LostAfter)
	def(&c.ListTimeout, time.Minute)
	def(&c.IdleScope, 10*time.Minute)
	if c.MaxScopes == 0 {
		c.MaxScopes = 50
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
	if c.Client == nil {
		faults = append(faults, errors.New("client: missing"))
	}
	for name, d := range map[string]time.Duration{"poll interval": c.PollInterval, "max staleness": c.MaxStaleness, "write settle": c.WriteSettle} {
		if d < 0 {
			faults = append(faults, fmt.Errorf("%s: %v, want a positive duration", name, d))
		}
	}
	return errors.Join(faults...)
}

// Ours reports whether a runner is one of this installation.
func (c Config) Ours(runner bitbucket.Runner) bool {
	return slices.Contains(runner.Labels, c.Owner)
}

// floor is the least time between two lists of a scope, whoever asks.
func (c Config) floor() time.Duration { return min(c.RetryInterval, c.PollInterval) }

// staleAfter is the age from which a list is too old to act on.
func (c Config) staleAfter() time.Duration { return max(c.MaxStaleness, 3*c.PollInterval) }
