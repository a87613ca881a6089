package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
)

// Bitbucket is the client of one credentials set.
type Bitbucket interface {
	ResolveScope(ctx context.Context, scope bitbucket.Scope) (bitbucket.Scope, error)
	ListRunners(ctx context.Context, scope bitbucket.Scope) (bitbucket.RunnerList, error)
	GetRunner(ctx context.Context, scope bitbucket.Scope, uuid string) (bitbucket.Runner, time.Time, error)
	CreateRunner(ctx context.Context, scope bitbucket.Scope, runner bitbucket.NewRunner) (bitbucket.Runner, error)
	DisableRunner(ctx context.Context, scope bitbucket.Scope, uuid string) error
	DeleteRunner(ctx context.Context, scope bitbucket.Scope, uuid string) error
}

// Scope is one workspace or repository as one credentials set sees it: its last
// list, and the writes made since. Its methods that write are for the registrar
// and the reaper alone. Safe for concurrent use.
type Scope struct {
	// Credentials is the name of the credentials set.
	Credentials string
	// Written is the scope as the trigger names it; UUIDs or slugs.
	Written bitbucket.Scope

	config Config
	log    *zap.Logger
	notify func()

	// Serial is held by whoever counts the scope's runners before creating one.
	Serial sync.Mutex

	mu       sync.Mutex
	client   Bitbucket
	resolved bitbucket.Scope
	list     *bitbucket.RunnerList
	listErr  error
	stepSeen bool
	writes   map[string]write
	// suspect are runners of ours that vanished from the newest list in a body;
	// nil unless a second list is awaited.
	suspect []bitbucket.Runner
	waiters []chan struct{}
	wake    chan struct{}
	lastUse time.Time
}

// write is a runner changed by us since the last list that can show it.
type write struct {
	runner  bitbucket.Runner
	deleted bool
	at      time.Time
}

// ErrNoList says that no list of the scope has been read yet, or that the last
// one is too old to act on.
var ErrNoList = errors.New("no current list of runners")

func newScope(credentials string, written bitbucket.Scope, client Bitbucket, config Config, notify func()) *Scope {
	return &Scope{
		Credentials: credentials, Written: written, client: client, config: config, notify: notify,
		log:     config.Logger.With(zap.String("scope", written.String()), zap.String("credentials", credentials)),
		writes:  map[string]write{},
		wake:    make(chan struct{}, 1),
		lastUse: config.Clock.Now(),
	}
}

// using is the client as of now: credentials may be rotated.
func (s *Scope) using() Bitbucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// run polls until ctx ends: one list an interval, jittered by a tenth so that
// many scopes do not call in step, and at once when somebody asks.
func (s *Scope) run(ctx context.Context) {
	for {
		s.poll(ctx)
		interval := s.config.PollInterval
		s.mu.Lock()
		if s.suspect != nil || s.list == nil {
			interval = min(interval, s.config.RetryInterval)
		}
		s.mu.Unlock()
		timer := s.config.Clock.NewTimer(interval - time.Duration(rand.Int64N(int64(interval)/10+1))) //nolint:gosec // jitter, not a secret
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		case <-s.wake:
			timer.Stop()
		}
	}
}

func (s *Scope) poll(ctx context.Context) {
	s.mu.Lock()
	waiters := s.waiters
	s.waiters = nil
	resolved := s.resolved
	s.mu.Unlock()
	defer func() {
		for _, waiter := range waiters {
			close(waiter)
		}
	}()

	ctx, cancel := context.WithTimeout(ctx, s.config.ListTimeout)
	defer cancel()
	if resolved.Workspace == "" {
		var err error
		if resolved, err = s.using().ResolveScope(ctx, s.Written); err != nil {
			s.failed(ctx, fmt.Errorf("resolve scope %s: %w", s.Written, err))
			return
		}
		s.mu.Lock()
		s.resolved = resolved
		s.mu.Unlock()
	}
	list, err := s.using().ListRunners(ctx, resolved)
	if err != nil {
		s.failed(ctx, fmt.Errorf("list runners of %s: %w", s.Written, err))
		return
	}
	s.accept(ctx, list)
}

func (s *Scope) failed(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	s.mu.Lock()
	first := s.listErr == nil || s.listErr.Error() != err.Error()
	s.listErr = err
	s.mu.Unlock()
	if first {
		s.log.Warn("reading the runners failed", zap.Error(err))
	}
	s.notify()
}

// accept makes a list the authority, unless too much of what is ours vanished
// from it: then a second complete list and a GET of each must agree first.
func (s *Scope) accept(ctx context.Context, list bitbucket.RunnerList) {
	s.mu.Lock()
	vanished := s.vanished(list)
	known := s.suspect
	s.mu.Unlock()
	if len(vanished) > 0 {
		if known == nil || !s.confirmGone(ctx, vanished) {
			s.mu.Lock()
			s.suspect = vanished
			s.mu.Unlock()
			s.log.Warn("many runners vanished from one list, nothing is done until a second one and a read of each agree", zap.Int("vanished", len(vanished)))
			return
		}
	}
	s.mu.Lock()
	recovered := s.listErr != nil
	s.list, s.listErr, s.suspect = &list, nil, nil
	for _, runner := range list.Runners {
		s.stepSeen = s.stepSeen || runner.State.Step != nil
	}
	maps.DeleteFunc(s.writes, func(_ string, w write) bool {
		return list.Begun.After(w.at.Add(s.config.WriteSettle))
	})
	s.mu.Unlock()
	if recovered {
		s.log.Info("the runners can be read again")
	}
	s.notify()
}

// vanished returns the runners of ours that the new list lacks although we did
// not delete them, if they are at least 3 and more than a third. Called locked.
func (s *Scope) vanished(list bitbucket.RunnerList) []bitbucket.Runner {
	present := make(map[string]struct{}, len(list.Runners))
	for _, runner := range list.Runners {
		present[runner.UUID] = struct{}{}
	}
	var missing []bitbucket.Runner
	ours := 0
	for _, runner := range s.known() {
		if w, ok := s.writes[runner.UUID]; !s.config.Ours(runner) || ok && !list.Begun.After(w.at.Add(s.config.WriteSettle)) {
			continue // not ours, or too new for a list to be sure to show it
		}
		ours++
		if _, ok := present[runner.UUID]; !ok {
			missing = append(missing, runner)
		}
	}
	if len(missing) < 3 || 3*len(missing) <= ours {
		return nil
	}
	return missing
}

func (s *Scope) confirmGone(ctx context.Context, runners []bitbucket.Runner) bool {
	for _, runner := range runners {
		if _, _, err := s.using().GetRunner(ctx, s.Resolved(), runner.UUID); !errors.Is(err, bitbucket.ErrNotFound) {
			return false
		}
	}
	return true
}

// Resolved is the scope by UUID; empty before it could be resolved.
func (s *Scope) Resolved() bitbucket.Scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolved
}

// Hint asks for a list at once, without waiting for it.
func (s *Scope) Hint() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Refresh waits for a list begun after the call. Concurrent calls share one.
// The error is ErrNoList if that list failed, or the context's.
func (s *Scope) Refresh(ctx context.Context) error {
	begun := s.config.Clock.Now()
	waiter := make(chan struct{})
	s.mu.Lock()
	s.waiters = append(s.waiters, waiter)
	s.mu.Unlock()
	s.Hint()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for a list of %s: %w", s.Written, ctx.Err())
	case <-waiter:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspect != nil || s.list == nil || s.list.Begun.Before(begun) {
		return errors.Join(fmt.Errorf("scope %s: %w", s.Written, ErrNoList), s.listErr)
	}
	return nil
}

// ListBegun is when the list in force was begun; zero before the first.
func (s *Scope) ListBegun() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil {
		return time.Time{}
	}
	return s.list.Begun
}

// Runners are the runners of the scope as far as is known: the last list, and
// what was written since.
func (s *Scope) Runners() []bitbucket.Runner {
	view := s.view()
	return view.runners
}

// scopeView is a consistent copy of what a scope knows.
type scopeView struct {
	runners    []bitbucket.Runner
	begun      time.Time
	serverDate time.Time
	stepSeen   bool
	err        error
}

func (s *Scope) view() scopeView {
	s.mu.Lock()
	defer s.mu.Unlock()
	view := scopeView{runners: s.known(), stepSeen: s.stepSeen, err: s.listErr}
	if s.list != nil {
		view.begun, view.serverDate = s.list.Begun, s.list.ServerDate
	}
	return view
}

// known joins the last list with the writes made since. Called locked.
func (s *Scope) known() []bitbucket.Runner {
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
			runners = append(runners, w.runner)
		}
	}
	return runners
}

func (s *Scope) record(w write) {
	w.at = s.config.Clock.Now()
	s.mu.Lock()
	s.writes[w.runner.UUID] = w
	s.mu.Unlock()
	s.notify()
}

// Create registers a runner; for the registrar alone.
func (s *Scope) Create(ctx context.Context, runner bitbucket.NewRunner) (bitbucket.Runner, error) {
	created, err := s.using().CreateRunner(ctx, s.Resolved(), runner)
	if err != nil {
		if errors.Is(err, bitbucket.ErrOutcomeUnknown) {
			s.Hint()
		}
		return bitbucket.Runner{}, err
	}
	known := created
	known.OAuthClient = nil // the secret is the caller's alone
	s.record(write{runner: known})
	return created, nil
}

// Disable lets a runner take no new step.
func (s *Scope) Disable(ctx context.Context, runner bitbucket.Runner) error {
	if err := s.using().DisableRunner(ctx, s.Resolved(), runner.UUID); err != nil {
		return err
	}
	runner.State.Status = bitbucket.StatusDisabled
	s.record(write{runner: runner})
	return nil
}

// DisabledSince is when a runner was disabled by this process, as far as a list
// may not show it yet; zero otherwise.
func (s *Scope) DisabledSince(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writes {
		if w.runner.Name == name && !w.deleted && w.runner.State.Status == bitbucket.StatusDisabled {
			return w.at
		}
	}
	return time.Time{}
}

// Delete removes a runner; one that is gone already counts as removed.
func (s *Scope) Delete(ctx context.Context, runner bitbucket.Runner) error {
	if err := s.using().DeleteRunner(ctx, s.Resolved(), runner.UUID); err != nil {
		return err
	}
	s.record(write{runner: runner, deleted: true})
	return nil
}

// Get reads one runner live.
func (s *Scope) Get(ctx context.Context, uuid string) (bitbucket.Runner, error) {
	runner, _, err := s.using().GetRunner(ctx, s.Resolved(), uuid)
	return runner, err
}
