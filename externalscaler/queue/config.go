package queue

import (
	"context"
	"errors"
	"net/url"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
)

// Times between two reads of the same thing, before the pacer stretches them.
const (
	// hotInterval is for the list of a repository with live pipelines, and for a pipeline in
	// which something else than our runners decides what comes next.
	hotInterval = 15 * time.Second
	// ownInterval is for the list of a repository that a group names, without live pipelines.
	ownInterval = 30 * time.Second
	// foundInterval is for the list of a repository that was found because something happened
	// in it, and for looking for such repositories.
	foundInterval = time.Minute
	// HookedInterval is for the list of a repository with live pipelines whose webhooks
	// arrive.
	HookedInterval = 5 * time.Minute
	// confirmInterval is for a pipeline with steps that wait: each read confirms that they
	// still do.
	confirmInterval = time.Minute
	// quietInterval is for a pipeline of which only our runners decide what comes next, and
	// for a gate that stays closed.
	quietInterval = 5 * time.Minute
)

const (
	// hooksBelieved is how long the webhooks of a repository count as arriving after the last
	// delivery from it or from its workspace.
	hooksBelieved = time.Hour
	// forgetAfter is how long a found repository is looked at after the last sign of life.
	forgetAfter = 30 * time.Minute
	// pushDelay is the time between a push and the list that looks for its pipeline, if no
	// delivery names the pipeline before.
	pushDelay = 5 * time.Second
	// unreadFor is how long a new pipeline may be unread, or not parsed, until its steps count
	// as unknown.
	unreadFor = 10 * time.Second
	// firstReadFor is how long the first reads may take until the queue counts as unknown.
	firstReadFor = time.Minute
	// settle is how long Bitbucket may take until it shows what a runner has reported.
	settle = 30 * time.Second
	// hintFloor is the least time between two reads of a pipeline for hints.
	hintFloor = 2 * time.Second
	// parseFloor is the least time between two looks at a pipeline that has not been parsed, and
	// mostParsing the longest wait before the first one.
	parseFloor  = 500 * time.Millisecond
	mostParsing = 10 * time.Second
	// endedFor is how long a delivery may be late that names a pipeline which has ended.
	endedFor = 5 * time.Second
	// missedAfter is the age at which a pipeline that no webhook has named shows that
	// webhooks do not arrive.
	missedAfter = time.Minute
	// askedFor is how long the labels of failed steps are kept after the end of their pipeline.
	askedFor = time.Minute
	// readTimeout bounds one read, which can be several calls.
	readTimeout = 30 * time.Second
	// askedEvery is the time between two reads that reports of one group's runners ask for.
	askedEvery = 30 * time.Second
	// retryBase and retryMost bound the time to the next try after a failed read.
	retryBase = 5 * time.Second
	retryMost = 5 * time.Minute
	// hintRetries is how often a pipeline that a hint names is tried again before a list of the
	// repository must do.
	hintRetries = 4
	// retriesSoon is how often a pipeline that cannot be read, or is not parsed, is tried again
	// before the regular reads.
	retriesSoon = 8
	// notFoundRetries is how often something that is not found is tried again: Bitbucket can say
	// that for a moment of what is there.
	notFoundRetries = 2
)

// Bounds.
const (
	// readsAtOnce is how many reads of a credentials set are in progress at the same time.
	readsAtOnce = 4
	// mostRepositories, mostBuilds and mostHints bound what is kept of a credentials set, of a
	// repository, and of what is to be read in a repository.
	mostRepositories = 1000
	mostBuilds       = 500
	mostHints        = 500
	// wrongAtOnce is how many deliveries of a repository can name pipelines which there are not, or
	// which have ended, until lists stand for them. Then it is one per minute.
	wrongAtOnce = 30
	// toldAtOnce is how many reads of a pipeline deliveries can ask for soon. Then it is one per
	// confirmInterval.
	toldAtOnce = 20
	// mostAsked bounds the failed steps of a repository whose labels are kept for askedFor.
	mostAsked = 100
	// mostEnded bounds the ended pipelines of a repository that are remembered.
	mostEnded = 100
	// mostImports bounds the files that one file imports from.
	mostImports = 10
	// cachedFiles is how many files are kept, and cachedSize their greatest size.
	cachedFiles = 64
	cachedSize  = 64 << 10
	// askedAtOnce is how many reads at once the reports of one group's runners can ask for, and
	// then one per askedEvery: what runs in a pod can report anything. What they do not get is
	// read when it is due anyway.
	askedAtOnce = 10
)

// Bitbucket is the client of one credentials set.
type Bitbucket interface {
	ResolveScope(ctx context.Context, scope bitbucket.Scope) (bitbucket.Scope, error)
	Get(ctx context.Context, class bitbucket.Class, route, path string, query url.Values) ([]byte, error)
}

// Pacer says how fast a credentials set may read, so that its hourly budget lasts.
type Pacer interface {
	// PaceReads returns the factor, at least 1, by which the intervals between reads must be
	// longer than wanted. readsPerHour is what all of them want together.
	PaceReads(readsPerHour float64) (factor float64)
}

// Config configures a Queue.
type Config struct {
	// Client returns the client of a credentials set, or an error if there is no such set or
	// the namespace may not use it.
	Client func(credentials, namespace string) (Bitbucket, error)
	// Pacer returns the pacer of a credentials set; nil if reads need not be paced.
	Pacer func(credentials string) Pacer
	// Waited takes how long a step was seen to wait until a runner of a group reported it; nil if
	// nobody asks. It must return at once.
	Waited func(namespace, name string, wait time.Duration)
	// Clock is the time; the real one unless set.
	Clock clock.WithTicker
}

type unpaced struct{}

func (unpaced) PaceReads(float64) float64 { return 1 }

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil {
		return c, errors.New("queue: client: missing")
	}
	if c.Pacer == nil {
		c.Pacer = func(string) Pacer { return unpaced{} }
	}
	if c.Waited == nil {
		c.Waited = func(string, string, time.Duration) {}
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return c, nil
}
