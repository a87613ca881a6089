package scope

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// memoryStore stores scopes in memory, and fails as often as the test sets.
type memoryStore struct {
	mu     sync.Mutex
	stored []RegisteredScope
	fails  int
}

var errStore = errors.New("the store is away")

func (m *memoryStore) LoadScopes(context.Context) ([]RegisteredScope, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.stored), m.fail()
}

func (m *memoryStore) SaveScopes(_ context.Context, scopes []RegisteredScope) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail(); err != nil {
		return err
	}
	m.stored = slices.Clone(scopes)
	return nil
}

func (m *memoryStore) fail() error {
	if m.fails > 0 {
		m.fails--
		return errStore
	}
	return nil
}

func (m *memoryStore) now() []RegisteredScope {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.stored)
}

func TestRunnersOfAScopeThatNobodyNamesAreFoundAfterARestart(t *testing.T) {
	store := &memoryStore{fails: 1}
	url, _ := emulator.NewTestServer(t, emulator.Options{RateLimit: -1})
	config := Config{Store: store, KeepRegistered: true, PollInterval: 100 * time.Millisecond, RetryInterval: 50 * time.Millisecond, IdleScope: time.Second}
	first := startAt(t, url, config)
	first.want(acme())
	first.until("a registration", func() bool { _, err := first.create(t.Context(), "r"); return err == nil })
	first.stop()

	second := startAt(t, url, config) // its ScaledJob was deleted meanwhile
	var at ID
	second.until("the runner to be found", func() bool {
		id, _, ok := second.FindRunner("r", "")
		at = id
		return ok
	})
	begun := time.Now()
	second.until("the scope to be polled beyond its time, as long as it holds a runner", func() bool {
		second.Use(nil)
		if _, ok := second.Views()[at]; !ok {
			t.Fatal("the scope was dropped")
		}
		return time.Since(begun) > 2*config.IdleScope
	})
	second.until("its deletion", func() bool { return second.Delete(t.Context(), at, second.view(at).Runners[0]) == nil })
	second.until("the scope to be forgotten", func() bool { second.Use(nil); return len(store.now()) == 0 })
}

func TestAStoredScopeWhoseCredentialsAreMissingStaysStored(t *testing.T) {
	kept := RegisteredScope{Namespace: "team", Credentials: "gone", Workspace: emulator.WorkspaceUUID}
	store := &memoryStore{stored: []RegisteredScope{kept}}
	var r *rig
	r = start(t, Config{Store: store, Client: func(name, _ string) (Bitbucket, error) {
		if name == kept.Credentials {
			return nil, errStore
		}
		return r.client, nil
	}})
	r.want(acme())
	r.until("the other scope to be stored beside it", func() bool { return len(store.now()) == 2 })
	if got := store.now(); !slices.Contains(got, kept) {
		t.Errorf("got %v, want %v among them", got, kept)
	}
}

func TestNothingIsRegisteredInAScopeThatWouldNotBeFoundAgain(t *testing.T) {
	r := start(t, Config{Store: &memoryStore{fails: 1 << 30}})
	r.want(acme())
	if _, err := r.create(t.Context(), "r"); !errors.Is(err, ErrNotWritable) {
		t.Errorf("got %v, want %v", err, ErrNotWritable)
	}
}
