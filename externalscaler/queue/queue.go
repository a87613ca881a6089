package queue

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// Queue knows the steps that wait in the repositories of the groups that scale by them. It is
// safe for concurrent use.
type Queue struct {
	config   Config
	onChange atomic.Pointer[func()]
	current  atomic.Pointer[Snapshot]
	// wake delivers when there may be something to read.
	wake chan struct{}
	// files are parsed files by repository, commit and path.
	files *lru.Cache[fileKey, *pipelines.File]
	usual Usual

	mu     sync.Mutex
	groups []Group
	sets   map[string]*set // by the name of the credentials set
	runs   map[string]report
	asking map[string]*rate.Limiter // by namespace/name of the group
	counts Counts
}

type fileKey struct{ repository, commit, path string }

// Counts are totals since the start of the process.
type Counts struct {
	// Hints were taken, and Dropped were not: they name no repository of a group, or too many
	// were waiting.
	Hints, Dropped int64
	// Predicted are the steps that counted as waiting from a runner's report, before Bitbucket
	// showed them. Contradicted are those of them that Bitbucket then showed as not waiting.
	Predicted, Contradicted int64
}

// New returns a Queue. Run makes it live.
func New(config Config) (*Queue, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	files, err := lru.New[fileKey, *pipelines.File](cachedFiles)
	if err != nil {
		return nil, err
	}
	q := &Queue{config: config, wake: make(chan struct{}, 1), files: files, usual: NewUsual(), sets: map[string]*set{}, runs: map[string]report{}, asking: map[string]*rate.Limiter{}}
	q.current.Store(&Snapshot{})
	return q, nil
}

// OnChange sets what is called after each change of the snapshot.
func (q *Queue) OnChange(changed func()) { q.onChange.Store(&changed) }

// Snapshot returns what is known. It is immutable.
func (q *Queue) Snapshot() *Snapshot { return q.current.Load() }

// Counts returns the totals.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// Hint takes a hint.
func (q *Queue) Hint(h Hint) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.config.Clock.Now()
	set := q.sets[h.Credentials]
	if set == nil {
		q.counts.Dropped++
		return
	}
	known := len(set.repositories)
	if !set.hint(h, now) {
		q.counts.Dropped++
		return
	}
	q.counts.Hints++
	if len(set.repositories) != known {
		q.changed()
		return
	}
	q.poke() // nothing else that is known changes by a hint
}

// Run reads until ctx ends, and waits for the reads in progress. What was known before it began
// is forgotten, because another process may have led meanwhile.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	q.sets, q.runs = map[string]*set{}, map[string]report{}
	q.want(q.config.Clock.Now())
	q.changed()
	q.mu.Unlock()
	var reads sync.WaitGroup
	defer reads.Wait()
	for ctx.Err() == nil {
		read, wait := q.next()
		if read != nil {
			reads.Go(func() { q.perform(ctx, read) })
			continue
		}
		timer := q.config.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C():
		}
		timer.Stop()
	}
	return nil
}

// perform does one read, which is bounded in time.
func (q *Queue) perform(ctx context.Context, read *read) {
	// A read is tried once, because it is tried again later anyway.
	ctx, cancel := context.WithTimeout(bitbucket.WithoutRetries(ctx), readTimeout)
	defer cancel()
	err := read.err
	if err == nil {
		err = read.call(ctx, read.client)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.config.Clock.Now()
	read.set.reading--
	if ctx.Err() == nil || err == nil {
		read.set.note(err, now)
	}
	read.apply(err, now)
	q.changed()
}

// changed publishes what is known and looks for what to read. Called locked.
func (q *Queue) changed() {
	q.publish(q.config.Clock.Now())
	q.poke()
	if notify := q.onChange.Load(); notify != nil {
		(*notify)()
	}
}

// poke looks for what to read.
func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// want makes the sets, workspaces and repositories that the groups need, and drops the others.
// Called locked.
func (q *Queue) want(now time.Time) {
	for _, set := range q.sets {
		set.unwant()
	}
	maps.DeleteFunc(q.asking, func(name string, _ *rate.Limiter) bool {
		return !slices.ContainsFunc(q.groups, func(g Group) bool { return g.Namespace+"/"+g.Name == name })
	})
	for _, group := range q.groups {
		if !group.ByQueue || group.Scope.Workspace == "" {
			continue
		}
		s := q.sets[group.Credentials]
		if s == nil {
			s = newSet(q, group.Credentials, group.Namespace)
			q.sets[group.Credentials] = s
		}
		s.want(group, now)
	}
	for name, set := range q.sets {
		if set.drop() {
			delete(q.sets, name)
		}
	}
}
