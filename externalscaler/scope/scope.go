package scope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
)

// ErrNoList says that no list of the scope has been read yet, or that the last one
// is too old to act on.
var ErrNoList = errors.New("no current list of runners")

// scope is one workspace or repository as one credentials set sees it: its last
// list, and the writes made since. Safe for concurrent use.
type scope struct {
	id     ID
	config Config
	log    *zap.Logger
	// namespace is one that may use the credentials set.
	namespace string
	// changed is called after each change of what is known.
	changed func()
	// claim makes this scope the one that stands for its UUIDs; false if another,
	// spelt otherwise, does already.
	claim func(resolved bitbucket.Scope) bool
	// pace and hurry are those of the credentials set's Pacer.
	pace  func() float64
	hurry func() bool
	// slots is held while the scope's runners are counted and one is created.
	slots chan struct{}
	wake  chan struct{}

	mu       sync.Mutex
	client   Bitbucket
	resolved bitbucket.Scope
	wanted   time.Duration // between two lists, if the budget allows
	interval time.Duration // in force
	list     *bitbucket.RunnerList
	listErr  error
	stepSeen bool
	route    route
	stored   bool
	notFound NotFound
	// slugChecked is when the slugs were last seen to lead here.
	slugChecked time.Time
	writes      map[string]write   // by runner UUID
	rechecks    map[string]recheck // by runner UUID, newer than the list
	// carried are our runners that the list in force lacks and the one before had:
	// one list alone is not believed.
	carried map[string]bitbucket.Runner
	// suspect are our runners that vanished from the newest list together; nil
	// unless a second list is awaited.
	suspect []bitbucket.Runner
	// attempts are the registrations of unknown outcome, by the runner's name, and
	// when each ended.
	attempts map[string]time.Time
	lastUse  time.Time
	// view is what the fields above amount to; nil after a change of any of them.
	view *View
}

func newScope(id ID, client Bitbucket, config Config, changed func()) *scope {
	return &scope{
		id: id, client: client, config: config, changed: changed,
		log:   config.Logger.With(zap.String("scope", id.String()), zap.String("credentials", id.Credentials)),
		claim: func(bitbucket.Scope) bool { return true },
		pace:  func() float64 { return 1 }, hurry: func() bool { return true },
		wanted: config.PollInterval, interval: config.PollInterval,
		slots:  make(chan struct{}, 1),
		wake:   make(chan struct{}, 1),
		writes: map[string]write{}, rechecks: map[string]recheck{}, attempts: map[string]time.Time{},
	}
}

// using is the client as of now: credentials may be rotated.
func (s *scope) using() Bitbucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// lockSlots waits to be the only one to count and create runners in this scope, as
// long as ctx lasts. Every lockSlots that succeeds needs an unlockSlots.
func (s *scope) lockSlots(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for other registrations in %s: %w", s.id, ctx.Err())
	}
}

func (s *scope) unlockSlots() { <-s.slots }

// wish is the time between two lists that the scope wants now.
func (s *scope) wish() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}

// resolvedScope is the scope by UUIDs; zero before it could be resolved.
func (s *scope) resolvedScope() bitbucket.Scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolved
}

// now returns what is known of the scope.
func (s *scope) now() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view != nil {
		return s.view
	}
	v := &View{
		ID: s.id, Resolved: s.resolved, Runners: s.known(), Interval: s.interval, Stretched: s.config.noticeable(s.interval),
		StepSeen: s.stepSeen, Err: s.listErr, NotFound: s.notFound, list: s.list, rechecks: map[string]recheck{},
	}
	if s.list != nil {
		v.ListBegun, v.ServerDate = s.list.Begun, s.list.ServerDate
		v.listShowsSteps = slices.ContainsFunc(s.list.Runners, func(r bitbucket.Runner) bool { return r.State.Step != nil })
	}
	for uuid, r := range s.rechecks {
		v.rechecks[uuid] = r
	}
	s.view = v
	return v
}

// known joins the last list with the writes made since. Called locked.
func (s *scope) known() []bitbucket.Runner {
	var runners []bitbucket.Runner
	seen := map[string]struct{}{}
	if s.list != nil {
		for _, runner := range s.list.Runners {
			seen[runner.UUID] = struct{}{}
			w, written := s.writes[runner.UUID]
			if w.deleted {
				continue
			}
			// The list may be older than the write: only its status is ours to know.
			if written && w.runner.State.Status == bitbucket.StatusDisabled {
				runner.State.Status = bitbucket.StatusDisabled
			}
			runners = append(runners, runner)
		}
	}
	for uuid, w := range s.writes {
		if _, ok := seen[uuid]; !ok && !w.deleted {
			seen[uuid] = struct{}{}
			runners = append(runners, w.runner)
		}
	}
	for uuid, runner := range s.carried {
		if _, ok := seen[uuid]; !ok && !s.writes[uuid].deleted {
			runners = append(runners, runner)
		}
	}
	return runners
}

// markStored notes that the scope would be found again after a restart.
func (s *scope) markStored() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = true
}

// use notes that the scope was asked for at that time, and through which client:
// rotated credentials take effect at once.
func (s *scope) use(client Bitbucket, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = client
	if at.After(s.lastUse) {
		s.lastUse = at
	}
}

// unused reports whether the scope may be dropped at now.
func (s *scope) unused(now time.Time) bool {
	view := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	// Someone must see that they go, also those whose deletion no list has shown yet.
	if s.config.KeepRegistered && (slices.ContainsFunc(view.Runners, s.config.ours) || s.list != nil && slices.ContainsFunc(s.list.Runners, s.config.ours)) {
		return false
	}
	return now.Sub(s.lastUse) > s.config.IdleScope
}
