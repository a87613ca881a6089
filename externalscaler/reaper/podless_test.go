package reaper

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// kept implements Store in memory.
type kept struct {
	since  map[string]time.Time
	saves  int
	broken bool
}

func (k *kept) LoadPodless(context.Context) (map[string]time.Time, error) {
	if k.broken {
		return nil, errors.New("the API server is unreachable")
	}
	return maps.Clone(k.since), nil
}

func (k *kept) SavePodless(_ context.Context, since map[string]time.Time) error {
	k.since, k.saves = since, k.saves+1
	return nil
}

// leaders leads with one process after another, each for so long, and returns when the
// first of the runners without a pod was due. It looks every 2 s, with a list per minute.
func leaders(t *testing.T, store Store, terms ...time.Duration) (due time.Duration) {
	t.Helper()
	begun, due := time.Now(), -1
	for _, term := range terms {
		r := New(Config{Store: store, Snapshots: &world{}})
		r.load(t.Context())
		r.overdue(nil) // the first look comes before the first list
		r.store(t.Context())
		r.passes.Wait()
		for end := time.Now().Add(term); time.Now().Before(end); <-time.After(2 * time.Second) {
			orphan := fleet.Podless{
				Scope: scope.ID{Credentials: "default"}, ListBegun: begun.Add(time.Since(begun).Truncate(time.Minute)),
				Runner: bitbucket.Runner{UUID: "{orphan}", State: bitbucket.RunnerState{Status: bitbucket.StatusDisabled}},
			}
			if len(r.overdue([]fleet.Podless{orphan})) > 0 && due < 0 {
				due = time.Since(begun)
			}
			r.store(t.Context())
			r.passes.Wait()
		}
	}
	return due
}

func TestTheGraceOfAnOrphanSurvivesAChangeOfTheLeader(t *testing.T) {
	for name, c := range map[string]struct {
		store       *kept
		terms       []time.Duration
		least, most time.Duration
	}{
		"one leader":                       {&kept{}, []time.Duration{time.Hour}, 5 * time.Minute, 6 * time.Minute},
		"a leader after four minutes":      {&kept{}, []time.Duration{4 * time.Minute, time.Hour}, 5 * time.Minute, 6 * time.Minute},
		"three changes in ten minutes":     {&kept{}, []time.Duration{4 * time.Minute, 30 * time.Second, 20 * time.Second, time.Hour}, 5 * time.Minute, 7 * time.Minute},
		"a new leader must see it too":     {&kept{since: map[string]time.Time{"{orphan}": time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC)}}, []time.Duration{time.Hour}, time.Minute, 2 * time.Minute},
		"a clock ahead does not lengthen":  {&kept{since: map[string]time.Time{"{orphan}": time.Unix(1<<40, 0)}}, []time.Duration{time.Hour}, 5 * time.Minute, 6 * time.Minute},
		"what cannot be read begins again": {&kept{broken: true}, []time.Duration{time.Hour}, 5 * time.Minute, 6 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if due := leaders(t, c.store, c.terms...); due < c.least || due > c.most {
					t.Errorf("due after %v, want %v to %v", due, c.least, c.most)
				}
				if c.store.saves > len(c.terms) {
					t.Errorf("stored %d times by %d leaders", c.store.saves, len(c.terms))
				}
			})
		})
	}
}

func TestWhatALeaderLoadedIsStoredUntilItIsSeenToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &kept{since: map[string]time.Time{"{gone}": time.Now(), "{unseen}": time.Now(), "{old}": time.Now().Add(-keepStored - 1)}}
		r := New(Config{Store: store, Snapshots: &world{}})
		r.load(t.Context())
		look := func(podless ...fleet.Podless) {
			r.overdue(podless)
			r.store(t.Context())
			r.passes.Wait()
			<-time.After(storeEvery)
		}
		want := func(when string, uuids ...string) {
			t.Helper()
			if got := slices.Sorted(maps.Keys(store.since)); !slices.Equal(got, uuids) {
				t.Errorf("%s: stored %q, want %q", when, got, uuids)
			}
		}
		look()
		want("before any list", "{gone}", "{unseen}")
		look(fleet.Podless{Runner: bitbucket.Runner{UUID: "{gone}"}})
		look()
		want("a list lacks what was seen", "{unseen}")
		<-time.After(keepLoaded)
		look()
		want("after an hour")
	})
}
