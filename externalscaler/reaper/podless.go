package reaper

import (
	"context"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"
)

// Store keeps since when runners have been without a pod, by UUID, so that their grace goes
// on if the leader changes. A pod that is gone never comes back: its UID is in the name of
// its runner.
type Store interface {
	LoadPodless(ctx context.Context) (map[string]time.Time, error)
	// SavePodless replaces all that was kept.
	SavePodless(ctx context.Context, since map[string]time.Time) error
}

// storeEvery bounds how often that is stored: most runners without a pod are gone sooner.
const storeEvery = time.Minute

// What was loaded is kept for keepLoaded: a process that begins to lead sees no runner
// until it has read the first list, which a failing Bitbucket may delay. What is older than
// keepStored is dropped even if leaders change more often than that.
const (
	keepLoaded = time.Hour
	keepStored = 24 * time.Hour
)

// storing names the pass that stores.
type storing struct{}

// load reads what an earlier leader has stored. Without it the grace begins again.
func (r *Reaper) load(ctx context.Context) {
	if r.config.Store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.PassTimeout)
	defer cancel()
	stored, err := r.config.Store.LoadPodless(ctx)
	if err != nil {
		r.log.Warn("it is not known since when runners have been without a pod: their grace begins now", zap.Error(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored, r.loaded, r.loadedAt = stored, maps.Clone(stored), r.config.Clock.Now()
}

// firstSight returns the sighting of a runner that this process sees without a pod for
// the first time. Called locked.
func (r *Reaper) firstSight(uuid string, now time.Time) *sighting {
	s := &sighting{since: now, seen: now}
	if since, ok := r.loaded[uuid]; ok && since.Before(now) {
		s.since = since
	}
	return s
}

// store stores since when runners have been without a pod, if that has changed.
func (r *Reaper) store(ctx context.Context) {
	now := r.config.Clock.Now()
	if r.config.Store == nil || now.Sub(r.storedAt) < storeEvery {
		return
	}
	r.mu.Lock()
	maps.DeleteFunc(r.loaded, func(_ string, since time.Time) bool {
		return now.Sub(r.loadedAt) > keepLoaded || now.Sub(since) > keepStored
	})
	since := make(map[string]time.Time, len(r.podless)+len(r.loaded))
	maps.Copy(since, r.loaded)
	for uuid, s := range r.podless {
		since[uuid] = s.since.UTC().Truncate(time.Second)
	}
	changed := !maps.EqualFunc(since, r.stored, time.Time.Equal)
	r.mu.Unlock()
	if !changed {
		return
	}
	r.storedAt = now
	r.pass(ctx, storing{}, func(ctx context.Context) error {
		if err := r.config.Store.SavePodless(ctx, since); err != nil {
			return fmt.Errorf("store since when runners have been without a pod: %w", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stored = since
		return nil
	})
}
