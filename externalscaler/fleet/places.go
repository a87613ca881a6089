package fleet

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// Places keeps across restarts in which scopes runners of ours may be. Without it
// those of a scope that no ScaledJob names any more would be found only by the
// process that registered them.
type Places interface {
	LoadPlaces(ctx context.Context) ([]KeptPlace, error)
	// SavePlaces replaces all that was kept.
	SavePlaces(ctx context.Context, places []KeptPlace) error
}

// KeptPlace is a scope by UUIDs, with the credentials set that reaches it and a
// namespace that may use that. It holds no secret.
type KeptPlace struct {
	Namespace   string `json:"namespace"`
	Credentials string `json:"credentials"`
	Workspace   string `json:"workspace"`
	Repository  string `json:"repository,omitempty"`
}

func (p KeptPlace) compare(other KeptPlace) int {
	return cmp.Or(cmp.Compare(p.Namespace, other.Namespace), cmp.Compare(p.Credentials, other.Credentials),
		cmp.Compare(p.Workspace, other.Workspace), cmp.Compare(p.Repository, other.Repository))
}

// Times of keeping places.
const (
	placesTimeout = 10 * time.Second
	placesRetry   = 2 * time.Second
)

// keepPlaces takes the kept places up and keeps what is in use from then on, until
// ctx ends. No runner is registered in a scope before it is kept.
func (f *Fleet) keepPlaces(ctx context.Context) {
	var kept, barred []KeptPlace
	for loaded := false; !loaded; {
		bounded, cancel := context.WithTimeout(ctx, placesTimeout)
		places, err := f.config.Places.LoadPlaces(bounded)
		cancel()
		if loaded = err == nil; loaded {
			kept, barred = places, f.takeUp(places)
		} else if f.config.Logger.Warn("the places of runners were not read, trying again", zap.Error(err)); !f.pause(ctx, placesRetry) {
			return
		}
	}
	for {
		changed := f.Wait()
		scopes, places := f.placesInUse(barred)
		if !slices.Equal(places, kept) {
			bounded, cancel := context.WithTimeout(ctx, placesTimeout)
			err := f.config.Places.SavePlaces(bounded, places)
			cancel()
			if err != nil {
				if ctx.Err() == nil {
					f.config.Logger.Warn("the places of runners were not kept, trying again", zap.Error(err))
				}
				if !f.pause(ctx, placesRetry) {
					return
				}
				continue
			}
			kept = places
		}
		for _, scope := range scopes {
			scope.keep()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// takeUp starts to poll the kept scopes; one that holds no runner of ours is
// dropped again after Config.IdleScope. It returns those whose credentials set is
// not there at present: they stay kept.
func (f *Fleet) takeUp(places []KeptPlace) (barred []KeptPlace) {
	for _, place := range places {
		key := GroupKey{Namespace: place.Namespace}
		spec := runnergroup.Group{Credentials: place.Credentials, Workspace: place.Workspace, Repository: place.Repository}
		if _, err := f.scope(key, spec, f.config.Clock.Now()); err != nil {
			f.config.Logger.Warn("a scope where runners of ours may be cannot be looked at", zap.String("workspace", place.Workspace), zap.Error(err))
			barred = append(barred, place)
		}
	}
	f.Changed()
	return barred
}

// placesInUse are the scopes of the snapshot that are resolved, and the barred ones.
func (f *Fleet) placesInUse(barred []KeptPlace) (scopes []*Scope, places []KeptPlace) {
	places = slices.Clone(barred)
	for _, scope := range f.snapshot.Load().scopes {
		resolved := scope.Resolved()
		if resolved == (bitbucket.Scope{}) {
			continue
		}
		scopes = append(scopes, scope)
		places = append(places, KeptPlace{Namespace: scope.namespace, Credentials: scope.Credentials, Workspace: resolved.Workspace, Repository: resolved.Repository})
	}
	slices.SortFunc(places, KeptPlace.compare)
	return scopes, slices.Compact(places)
}

// pause waits; false if ctx ended.
func (f *Fleet) pause(ctx context.Context, d time.Duration) bool {
	timer := f.config.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// keep notes that the scope would be found again after a restart.
func (s *Scope) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = true
}
