package scope

import (
	"errors"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestSlugAndUUIDAreOneScope(t *testing.T) {
	r := start(t, Config{PollInterval: 20 * time.Millisecond})
	byUUID := ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: emulator.WorkspaceUUID}}
	r.want(acme())
	r.want(byUUID)
	r.until("both to be one", func() bool { return r.view(acme()).ID == r.view(byUUID).ID })
	if n := len(r.canonicalScopes()); n != 1 {
		t.Errorf("%d scopes are polled, want 1", n)
	}
	other := ID{Credentials: "other", Scope: acme().Scope}
	r.want(other)
	if a, b := r.view(acme()), r.view(other); a.ID == b.ID || !a.Same(b) {
		t.Errorf("one workspace through two credentials sets: got %v and %v, want two scopes that are the same", a.ID, b.ID)
	}
}

func TestRefreshesKeepTheLeastTimeBetweenLists(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk, PollInterval: time.Hour})
	r.want(acme())
	before := r.lists()
	for range 20 {
		r.Refresh(acme())
	}
	clk.Step(9 * time.Second)
	if n := r.lists(); n != before {
		t.Errorf("%d lists within 10 s of the first", n-before)
	}
	r.until("the refresh", func() bool { clk.Step(2 * time.Second); return r.lists() > before })
	if n := r.lists(); n != before+1 {
		t.Errorf("%d lists for 20 refreshes at once, want 1", n-before)
	}
}

func TestScopesThatNobodyAsksForAreDropped(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk})
	r.want(acme())
	clk.Step(10*time.Minute + time.Second)
	r.Use(nil)
	if n := len(r.Views()); n != 0 {
		t.Errorf("%d scopes are in use, want none", n)
	}
	if err := r.Delete(t.Context(), acme(), bitbucket.Runner{}); !errors.Is(err, ErrUnknownScope) {
		t.Errorf("a write in a dropped scope: got %v, want %v", err, ErrUnknownScope)
	}
	r.want(acme())
}

func TestScopesOfAnUnusableCredentialsSetAreNotPolled(t *testing.T) {
	refused := errors.New("no such set")
	r := start(t, Config{Client: func(string, string) (Bitbucket, error) { return nil, refused }})
	r.Use([]Wanted{{ID: acme(), Namespace: "ns", At: time.Now()}})
	if n := len(r.Views()); n != 0 || r.lists() != 0 {
		t.Errorf("%d scopes, %d lists, want none", n, r.lists())
	}
}

func TestEveryFaultOfTheConfigurationIsReported(t *testing.T) {
	_, err := NewSet(Config{PollInterval: -1, WriteSettle: -1})
	for _, want := range []string{"owner label", "client", "poll interval", "write settle"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

func TestAScopeIsFoundByItsUUIDsUnderAnySpelling(t *testing.T) {
	r := start(t, Config{PollInterval: time.Hour})
	r.want(acme())
	byUUID := ID{Credentials: "default", Scope: r.view(acme()).Resolved}
	if err := r.Disable(t.Context(), byUUID, bitbucket.Runner{UUID: "{aaaaaaaa-0000-4000-8000-000000000000}"}); !errors.Is(err, bitbucket.ErrNotFound) {
		t.Errorf("got %v, want Bitbucket's own answer", err)
	}
}

func TestAScopeThatIsDroppedWhileItIsResolvedStandsForNothing(t *testing.T) {
	r := start(t, Config{PollInterval: time.Hour})
	r.want(acme())
	byUUID := ID{Credentials: "default", Scope: r.view(acme()).Resolved}
	r.mu.Lock()
	dropped := r.scopes[acme()]
	delete(r.scopes, acme())
	delete(r.canonical, byUUID)
	r.mu.Unlock()
	dropped.cancel()
	if r.claim(dropped, byUUID.Scope) {
		t.Error("a scope that is polled no more stands for its UUIDs")
	}
	r.want(acme()) // which would wait for ever for the dropped one's lists
}
