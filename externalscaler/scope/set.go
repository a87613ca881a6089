package scope

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// ErrUnknownScope says that no such scope is in use.
var ErrUnknownScope = errors.New("no such scope is in use")

// Set is the scopes in use, each with its poller. Safe for concurrent use.
type Set struct {
	config  Config
	changed atomic.Pointer[func()]
	// inUse delivers after each change of which scopes are in use.
	inUse chan struct{}

	mu     sync.Mutex
	scopes map[ID]*tracked
	// canonical are the scopes by their UUIDs: a slug and a UUID are one.
	canonical map[ID]*tracked
	// life is that of Run, which scopes found later must not outlive; nil before and
	// after it.
	life  context.Context //nolint:containedctx // see above
	polls sync.WaitGroup
}

// tracked is a scope as it was spelt.
type tracked struct {
	*scope
	cancel context.CancelFunc
	// alias is the scope that stands for the same UUIDs, if it is not this one.
	alias *tracked
}

// Wanted is a scope that somebody asked for.
type Wanted struct {
	ID
	// Namespace is one that may use the credentials set.
	Namespace string
	// At is when it was asked for.
	At time.Time
}

// NewSet makes a Set; Run makes it live. The error lists every fault of config.
func NewSet(config Config) (*Set, error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("scopes: %w", err)
	}
	return &Set{config: config, inUse: make(chan struct{}, 1), scopes: map[ID]*tracked{}, canonical: map[ID]*tracked{}}, nil
}

// OnChange sets what is called after each change of what is known.
func (s *Set) OnChange(changed func()) { s.changed.Store(&changed) }

func (s *Set) notify() {
	if changed := s.changed.Load(); changed != nil {
		(*changed)()
	}
}

func (s *Set) notifyInUse() {
	select {
	case s.inUse <- struct{}{}:
	default:
	}
}

// Run polls the scopes until ctx ends, and then waits for the last polls. It is
// called once.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	s.life = ctx
	for _, t := range s.scopes {
		s.startPolling(t)
	}
	s.mu.Unlock()
	if s.config.Store != nil {
		s.store(ctx)
	}
	<-ctx.Done()
	s.mu.Lock()
	s.life = nil // scopes that are asked for from now on are not polled
	s.mu.Unlock()
	s.polls.Wait()
	return nil
}

// Use notes which scopes are asked for. It starts to poll those that are new, and
// drops those that nobody has asked for within Config.IdleScope. A scope whose
// credentials set cannot be used is passed over.
func (s *Set) Use(wanted []Wanted) {
	for _, w := range wanted {
		_ = s.use(w) // who asks was told by Config.Client already
	}
	s.dropUnused()
}

// use finds or starts one scope.
func (s *Set) use(w Wanted) error {
	client, err := s.config.Client(w.Credentials, w.Namespace)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.scopes[w.ID]
	if !ok {
		t = s.start(w, client)
	}
	t.use(client, w.At)
	if t.alias != nil {
		t.alias.use(client, w.At)
	}
	return nil
}

// start makes a scope and, while Run lasts, polls it. Called locked.
func (s *Set) start(w Wanted, client Bitbucket) *tracked {
	t := &tracked{scope: newScope(w.ID, client, s.config, s.notify), cancel: func() {}}
	t.namespace = w.Namespace
	t.claim = func(resolved bitbucket.Scope) bool { return s.claim(t, resolved) }
	t.pace = func() float64 { return s.pace(w.Credentials) }
	t.hurry = func() bool { return s.config.Pacer(w.Credentials).Hurry() }
	s.scopes[w.ID] = t
	if s.life != nil {
		s.startPolling(t)
	}
	return t
}

func (s *Set) startPolling(t *tracked) {
	ctx, cancel := context.WithCancel(s.life)
	t.cancel = cancel
	s.polls.Go(func() { t.run(ctx) })
}

// pace returns by which factor the intervals of a credentials set's scopes must be
// longer than they want.
func (s *Set) pace(credentials string) float64 {
	s.mu.Lock()
	listsPerHour := 0.0
	for id, t := range s.scopes {
		if id.Credentials == credentials && t.alias == nil {
			// A scope that tries again soon after a failure must not slow the others down.
			listsPerHour += float64(time.Hour) / float64(max(t.wish(), s.config.PollInterval))
		}
	}
	s.mu.Unlock()
	return s.config.Pacer(credentials).Pace(listsPerHour)
}

// claim makes a scope the one that stands for its UUIDs. It stays so as long as it
// is used: what was written since the last list is known to it alone.
func (s *Set) claim(t *tracked, resolved bitbucket.Scope) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scopes[t.id] != t {
		return false // it was dropped meanwhile, and is polled no more
	}
	id := ID{Credentials: t.id.Credentials, Scope: resolved}
	if first, ok := s.canonical[id]; ok && first != t {
		t.alias = first
		first.use(first.using(), s.config.Clock.Now()) // it must not be dropped before the alias is looked up
		s.notify()
		return false
	}
	s.canonical[id] = t
	s.notifyInUse()
	return true
}

// dropUnused drops the scopes that nobody asked for lately, and the aliases of those.
func (s *Set) dropUnused() {
	now := s.config.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range s.scopes {
		if !t.unused(now) {
			continue
		}
		t.cancel()
		delete(s.scopes, id)
		if canonical := (ID{Credentials: id.Credentials, Scope: t.resolvedScope()}); s.canonical[canonical] == t {
			delete(s.canonical, canonical)
		}
		s.notifyInUse()
	}
	for id, t := range s.scopes {
		if t.alias != nil && s.canonical[ID{Credentials: id.Credentials, Scope: t.alias.resolvedScope()}] != t.alias {
			t.cancel()
			delete(s.scopes, id)
		}
	}
}

// Views returns what is known of each scope in use.
func (s *Set) Views() Views {
	s.mu.Lock()
	scopes := make(map[ID]*scope, len(s.scopes))
	for id, t := range s.scopes {
		if t.alias != nil {
			t = t.alias
		}
		scopes[id] = t.scope
	}
	s.mu.Unlock()
	views := make(Views, len(scopes))
	for id, sc := range scopes {
		views[id] = sc.now()
	}
	return views
}

// find returns the scope that stands for an ID.
func (s *Set) find(id ID) (*scope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.scopes[id]
	if !ok {
		t, ok = s.canonical[id] // by UUIDs, under another spelling
	}
	if !ok {
		return nil, fmt.Errorf("scope %s: %w", id, ErrUnknownScope)
	}
	if t.alias != nil {
		t = t.alias
	}
	return t.scope, nil
}

// canonicalScopes are the scopes in use, each once.
func (s *Set) canonicalScopes() []*scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*scope
	for _, t := range s.scopes {
		if t.alias == nil {
			found = append(found, t.scope)
		}
	}
	return found
}
