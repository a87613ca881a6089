package scope

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
)

// NotFound says that Bitbucket does not know a workspace or repository, or not by the
// name under which it was asked for.
type NotFound struct {
	// Since is when Bitbucket first said so. It is zero if the scope is found; other
	// failures than this one do not change it.
	Since time.Time
	// Renamed is true if only the slug is not found, and the scope still is by its UUID.
	Renamed bool
	// Gone is true if the scope by UUIDs has not been found for Config.GoneAfter, neither its
	// runners nor itself. A single answer, or an outage, proves nothing. Bitbucket also
	// answers so if the credentials may no longer see the scope: its runners may still work.
	Gone bool
	// unbroken is since when every list was answered so.
	unbroken time.Time
}

// slugEvery is the time between two checks whether the slugs still lead to the scope,
// whose UUIDs are known.
const slugEvery = 6 * time.Hour

// noteFailed takes up why a list failed.
func (s *scope) noteFailed(ctx context.Context, err error) {
	s.mu.Lock()
	before, resolved := s.notFound, s.resolved
	s.mu.Unlock()
	if !errors.Is(err, bitbucket.ErrNotFound) {
		if !before.Renamed {
			// A later answer has to say it again, and for as long, before the scope is gone.
			s.setNotFound(NotFound{Since: before.Since})
		}
		return
	}
	now := s.config.Clock.Now()
	next := NotFound{Since: before.Since, unbroken: before.unbroken}
	if before.Since.IsZero() || before.Renamed {
		next.Since = now
	}
	if next.unbroken.IsZero() {
		next.unbroken = now
	}
	// What has never been found by UUIDs may have been renamed, with its runners.
	if resolved.Workspace != "" && now.Sub(next.unbroken) >= s.config.GoneAfter {
		next.Gone = errors.Is(s.using().CheckScope(ctx, resolved), bitbucket.ErrNotFound)
	}
	s.setNotFound(next)
}

// noteListed takes up that a list was read, and checks the slugs from time to time.
func (s *scope) noteListed(ctx context.Context) {
	now := s.config.Clock.Now()
	s.mu.Lock()
	before, resolved, due := s.notFound, s.resolved, now.Sub(s.slugChecked) >= slugEvery
	first := s.slugChecked.IsZero() // it was resolved a moment ago
	if due {
		s.slugChecked = now
	}
	s.mu.Unlock()
	if !before.Renamed {
		s.setNotFound(NotFound{})
	}
	if !due || first {
		return
	}
	found, err := s.using().ResolveScope(ctx, s.id.Scope)
	switch {
	case errors.Is(err, bitbucket.ErrNotFound), err == nil && found != resolved:
		if !before.Renamed {
			s.log.Warn("the scope is no longer found by its slug: it was renamed", zap.Error(err))
			s.setNotFound(NotFound{Since: now, Renamed: true})
		}
	case err == nil:
		s.setNotFound(NotFound{})
	}
}

func (s *scope) setNotFound(next NotFound) {
	s.mu.Lock()
	changed := s.notFound != next
	if changed {
		s.notFound, s.view = next, nil
	}
	s.mu.Unlock()
	if changed {
		s.changed()
	}
}
