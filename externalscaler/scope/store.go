package scope

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/pause"
)

// Store keeps across restarts in which scopes our runners may be registered.
// Without it, the runners of a scope that no ScaledJob names any more would be
// found only by the process that registered them.
type Store interface {
	LoadScopes(ctx context.Context) ([]RegisteredScope, error)
	// SaveScopes replaces all that was kept.
	SaveScopes(ctx context.Context, scopes []RegisteredScope) error
}

// RegisteredScope is a scope by UUIDs, with the credentials set that reaches it and
// a namespace that may use that set. It holds no secret.
type RegisteredScope struct {
	Namespace   string `json:"namespace"`
	Credentials string `json:"credentials"`
	Workspace   string `json:"workspace"`
	Repository  string `json:"repository,omitempty"`
}

func (r RegisteredScope) compare(other RegisteredScope) int {
	return cmp.Or(cmp.Compare(r.Namespace, other.Namespace), cmp.Compare(r.Credentials, other.Credentials),
		cmp.Compare(r.Workspace, other.Workspace), cmp.Compare(r.Repository, other.Repository))
}

// Times of storing scopes.
const (
	storeTimeout = 10 * time.Second
	storeRetry   = 2 * time.Second
)

// store starts to poll the stored scopes and stores those in use from then on,
// until ctx ends. No runner is registered in a scope before it is stored.
func (s *Set) store(ctx context.Context) {
	stored, ok := s.load(ctx)
	if !ok {
		return
	}
	barred := s.resume(stored)
	for {
		scopes, registered := s.registeredScopes(barred)
		if !slices.Equal(registered, stored) {
			if err := s.save(ctx, registered); err != nil {
				if ctx.Err() == nil {
					s.config.Logger.Warn("storing the scopes of runners failed, trying again", zap.Error(err))
				}
				if !pause.For(ctx, s.config.Clock, storeRetry, nil) {
					return
				}
				continue
			}
			stored = registered
		}
		for _, sc := range scopes {
			sc.markStored()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.inUse:
		}
	}
}

// load reads what is stored, as often as it takes; false if ctx ended.
func (s *Set) load(ctx context.Context) ([]RegisteredScope, bool) {
	for {
		bounded, cancel := context.WithTimeout(ctx, storeTimeout)
		stored, err := s.config.Store.LoadScopes(bounded)
		cancel()
		if err == nil {
			return stored, true
		}
		s.config.Logger.Warn("reading the stored scopes of runners failed, trying again", zap.Error(err))
		if !pause.For(ctx, s.config.Clock, storeRetry, nil) {
			return nil, false
		}
	}
}

func (s *Set) save(ctx context.Context, scopes []RegisteredScope) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.config.Store.SaveScopes(ctx, scopes)
}

// resume starts to poll the stored scopes; one that holds none of our runners is
// dropped again after Config.IdleScope. It returns those whose credentials set is
// not there at present: they stay stored.
func (s *Set) resume(stored []RegisteredScope) (barred []RegisteredScope) {
	for _, r := range stored {
		id := ID{Credentials: r.Credentials, Scope: bitbucket.Scope{Workspace: r.Workspace, Repository: r.Repository}}
		if err := s.use(Wanted{ID: id, Namespace: r.Namespace, At: s.config.Clock.Now()}); err != nil {
			s.config.Logger.Warn("a scope that may hold our runners cannot be polled", zap.String("workspace", r.Workspace), zap.Error(err))
			barred = append(barred, r)
		}
	}
	s.notify()
	return barred
}

// registeredScopes are the scopes in use that are resolved, and the barred ones.
func (s *Set) registeredScopes(barred []RegisteredScope) (scopes []*scope, registered []RegisteredScope) {
	registered = slices.Clone(barred)
	for _, sc := range s.canonicalScopes() {
		resolved := sc.resolvedScope()
		if resolved == (bitbucket.Scope{}) {
			continue
		}
		scopes = append(scopes, sc)
		registered = append(registered, RegisteredScope{Namespace: sc.namespace, Credentials: sc.id.Credentials, Workspace: resolved.Workspace, Repository: resolved.Repository})
	}
	slices.SortFunc(registered, RegisteredScope.compare)
	return scopes, slices.Compact(registered)
}
