package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// group parses a trigger's metadata and finds its scope.
func (f *Fleet) group(key GroupKey, metadata map[string]string, now time.Time) (*Group, error) {
	spec, err := runnergroup.Parse(metadata)
	if err != nil {
		return nil, err
	}
	scope, err := f.admit(key, spec, now)
	if err != nil {
		return nil, err
	}
	return &Group{GroupKey: key, Spec: spec, Scope: scope}, nil
}

// admit is scope for a group, which may be refused its credentials set: before
// anything is asked of Bitbucket for it.
func (f *Fleet) admit(key GroupKey, spec runnergroup.Group, used time.Time) (*Scope, error) {
	if f.config.Allow != nil {
		if err := f.config.Allow(key, spec); err != nil {
			return nil, err
		}
	}
	return f.scope(key, spec, used)
}

// scope finds or starts the poller of a group's scope, last asked for at used.
func (f *Fleet) scope(key GroupKey, spec runnergroup.Group, used time.Time) (*Scope, error) {
	client, err := f.config.Client(spec.Credentials, key.Namespace)
	if err != nil {
		return nil, err
	}
	written := bitbucket.Scope{Workspace: spec.Workspace, Repository: spec.Repository}
	id := scopeKey{credentials: spec.Credentials, scope: written}
	f.mu.Lock()
	defer f.mu.Unlock()
	running, ok := f.scopes[id]
	if !ok {
		if f.config.Kubernetes == nil && len(f.scopes) >= f.config.MaxScopes {
			return nil, fmt.Errorf("%d scopes are served already: %w", len(f.scopes), ErrTooManyScopes)
		}
		running = f.start(id, client)
		running.namespace = key.Namespace
	}
	running.use(client, used)
	if running.alias != nil {
		running = running.alias
		running.use(client, used)
	}
	return running.Scope, nil
}

// use says that a scope is asked for still, and through which client: rotated
// credentials take effect at once.
func (s *Scope) use(client Bitbucket, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = client
	if at.After(s.lastUse) {
		s.lastUse = at
	}
}

// start makes a scope and, while Run lasts, polls it. Called locked.
func (f *Fleet) start(id scopeKey, client Bitbucket) *runningScope {
	scope := newScope(id.credentials, id.scope, client, f.config, f.Changed)
	ctx, cancel := context.WithCancel(f.poll)
	running := &runningScope{Scope: scope, cancel: cancel}
	scope.claim = func(resolved bitbucket.Scope) bool { return f.claim(running, resolved) }
	f.scopes[id] = running
	f.polls.Go(func() { scope.run(ctx) })
	return running
}

// claim makes a scope the one that stands for its UUIDs. It stays so as long as
// it is used: what was written since the last list is known to it alone.
func (f *Fleet) claim(running *runningScope, resolved bitbucket.Scope) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := scopeKey{credentials: running.Credentials, scope: resolved}
	if first, ok := f.canonical[id]; ok && first != running {
		running.alias = first
		first.use(first.using(), f.config.Clock.Now()) // it must not be dropped before the alias is looked up
		f.Changed()
		return false
	}
	f.canonical[id] = running
	return true
}

// scopesInUse drops the scopes that nobody asked for lately and returns the
// others, each once. Called locked.
func (f *Fleet) scopesInUse(now time.Time) []*Scope {
	var used []*Scope
	for key, running := range f.scopes {
		// Where runners of ours are left without a group, somebody must still see
		// that they go.
		holds := f.config.Kubernetes != nil && slices.ContainsFunc(running.Runners(), f.config.Ours)
		running.mu.Lock()
		unused := now.Sub(running.lastUse) > f.config.IdleScope && !holds
		resolved := running.resolved
		running.mu.Unlock()
		switch {
		case unused:
			running.cancel()
			delete(f.scopes, key)
			canonical := scopeKey{credentials: key.credentials, scope: resolved}
			if f.canonical[canonical] == running {
				delete(f.canonical, canonical)
			}
		case running.alias == nil:
			used = append(used, running.Scope)
		}
	}
	// An alias of a scope that was dropped begins anew.
	for key, running := range f.scopes {
		if running.alias != nil && f.canonical[scopeKey{credentials: key.credentials, scope: running.alias.Resolved()}] != running.alias {
			running.cancel()
			delete(f.scopes, key)
		}
	}
	return used
}

// sameScope reports whether two scopes are one, though perhaps seen with other
// credentials.
func sameScope(a, b *Scope) bool {
	resolved := a.Resolved()
	return a == b || resolved.Workspace != "" && resolved == b.Resolved()
}
