package fleet

import (
	"context"
	"errors"
	"fmt"
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
	// namespace is one that may use the credentials set.
	namespace string
	notify    func()
	// claim makes this scope the one that stands for its UUIDs; false if another,
	// written otherwise, does already.
	claim func(resolved bitbucket.Scope) bool
	// serial is held by whoever counts the scope's runners before creating one.
	serial chan struct{}

	mu       sync.Mutex
	client   Bitbucket
	resolved bitbucket.Scope
	list     *bitbucket.RunnerList
	listErr  error
	stepSeen bool
	kept     bool
	writes   map[string]write // by runner UUID
	looks    map[string]look  // by runner UUID, newer than the list
	// carried are runners of ours that the list in force lacks and the one before
	// had: one list alone is not believed.
	carried map[string]bitbucket.Runner
	// suspect are runners of ours that vanished from the newest list in a body;
	// nil unless a second list is awaited.
	suspect []bitbucket.Runner
	waiters []chan struct{}
	wake    chan struct{}
	lastUse time.Time
}

// ErrNoList says that no list of the scope has been read yet, or that the last
// one is too old to act on.
var ErrNoList = errors.New("no current list of runners")

func newScope(credentials string, written bitbucket.Scope, client Bitbucket, config Config, notify func()) *Scope {
	return &Scope{
		Credentials: credentials, Written: written, client: client, config: config, notify: notify,
		log:    config.Logger.With(zap.String("scope", written.String()), zap.String("credentials", credentials)),
		claim:  func(bitbucket.Scope) bool { return true },
		serial: make(chan struct{}, 1),
		writes: map[string]write{},
		looks:  map[string]look{},
		wake:   make(chan struct{}, 1),
	}
}

// using is the client as of now: credentials may be rotated.
func (s *Scope) using() Bitbucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// Lock waits to be the only one to register in this scope, as long as ctx lasts.
// Every Lock that succeeds needs an Unlock.
func (s *Scope) Lock(ctx context.Context) error {
	select {
	case s.serial <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for other registrations in %s: %w", s.Written, ctx.Err())
	}
}

// Unlock lets the next one register.
func (s *Scope) Unlock() { <-s.serial }

// Resolved is the scope by UUID; empty before it could be resolved.
func (s *Scope) Resolved() bitbucket.Scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolved
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

// Listed is a runner as the last list, or a later read of it alone, shows it,
// without what was written since: what shows a runner DISABLED was made after that
// took effect, however late Bitbucket applied the write or however old a list it
// gave.
// tellsSteps says whether what shows it shows a step of some runner: only then does
// none on this one prove anything, since lists that told of steps once may not for
// ever.
func (s *Scope) Listed(uuid string) (runner bitbucket.Runner, tellsSteps, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.looks[uuid]; ok {
		return l.runner, l.runner.State.Step != nil, true
	}
	if s.list == nil {
		return bitbucket.Runner{}, false, false
	}
	for _, listed := range s.list.Runners {
		if listed.UUID == uuid {
			runner, ok = listed, true
		}
		tellsSteps = tellsSteps || listed.State.Step != nil
	}
	return runner, tellsSteps && s.stepSeen, ok
}

// doubtSteps says that the list begun at that time lacks a step that there is: until
// a list shows one again, none proves nothing.
func (s *Scope) doubtSteps(listBegun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list != nil && s.list.Begun.Equal(listBegun) {
		s.stepSeen = false
	}
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
