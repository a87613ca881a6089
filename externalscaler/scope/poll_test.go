package scope

import (
	"errors"
	"fmt"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestHowSoonAScopeIsListedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		failures int
		listed   bool
		want     time.Duration // less a tenth at most
	}{
		"after a list":               {listed: true, want: time.Minute},
		"before the first list":      {want: 10 * time.Second},
		"unavailable once":           {err: bitbucket.ErrUnavailable, failures: 1, listed: true, want: 10 * time.Second},
		"unavailable three times":    {err: bitbucket.ErrUnavailable, failures: 3, listed: true, want: 40 * time.Second},
		"unavailable for long":       {err: bitbucket.ErrUnavailable, failures: 100, listed: true, want: time.Minute},
		"no such workspace, once":    {err: bitbucket.ErrNotFound, failures: 1, want: 10 * time.Second},
		"no such workspace for long": {err: fmt.Errorf("resolve: %w", bitbucket.ErrNotFound), failures: 100, want: 5 * time.Minute},
		"a scope is missing":         {err: bitbucket.ErrMissingScope, failures: 100, want: 5 * time.Minute},
		"throttled for long":         {err: &bitbucket.RateLimitedError{Err: &bitbucket.APIError{Status: 429}}, failures: 100, listed: true, want: 2 * time.Minute},
		"throttled, and told when":   {err: &bitbucket.RateLimitedError{RetryAfter: 10 * time.Minute, Err: &bitbucket.APIError{Status: 429}}, failures: 1, listed: true, want: 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s := newListed()
			if c.listed {
				s.list(t)
			}
			for range 100 {
				if got := s.next(c.err, c.failures, time.Minute); got > c.want || got < c.want*9/10 {
					t.Errorf("got %v, want %v less a tenth at most", got, c.want)
				}
			}
		})
	}
}

// hour lets an hour pass on the clock of a rig.
func (r *rig) hour(clk *clocktesting.FakeClock) {
	r.t.Helper()
	for range 3600 / 5 {
		r.until("the poller to wait", clk.HasWaiters)
		clk.Step(5 * time.Second)
	}
	r.until("the poller to wait", clk.HasWaiters)
}

func TestATypoCostsAtMostThirtyCallsPerHour(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk})
	typo := ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "amce"}}
	r.Use([]Wanted{{ID: typo, Namespace: "ns", At: clk.Now().Add(2 * time.Hour)}})
	r.hour(clk)
	if err := r.view(typo).Err; !errors.Is(err, bitbucket.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if n := r.calls("GET", ""); n > 30 || n < 5 {
		t.Errorf("%d calls in an hour, want at most 30", n)
	}
}

func TestAnOutageCostsOneCallPerInterval(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk})
	r.Use([]Wanted{{ID: acme(), Namespace: "ns", At: clk.Now().Add(2 * time.Hour)}})
	r.until("the first list", func() bool { return !r.view(acme()).ListBegun.IsZero() })
	r.faults(emulator.FaultRule{Path: "/2.0/*", Status: 503})
	before := r.calls("GET", "")
	r.hour(clk)
	// One per minute less a tenth, and a few sooner at first.
	if n := r.calls("GET", "") - before; n > 75 {
		t.Errorf("%d calls in an hour of an outage, want about 66", n)
	}
	r.faults()
	ended := clk.Now()
	r.until("the end of the outage to be seen", func() bool {
		clk.Step(time.Second)
		return r.view(acme()).ListBegun.After(ended)
	})
	if took := r.view(acme()).ListBegun.Sub(ended); took > time.Minute+10*time.Second {
		t.Errorf("the outage outlasted itself by %v", took)
	}
}

func TestIntervalsStretchWithTheNumberOfScopes(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Minute, 13: time.Minute, 20: 90 * time.Second, 100: 450 * time.Second} {
		r, err := NewSet(Config{Owner: owner, ListsPerHour: 800, Client: func(string, string) (Bitbucket, error) { return nil, nil }})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			id := ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "acme", Repository: fmt.Sprint(i)}}
			r.scopes[id] = &tracked{scope: newScope(id, nil, r.config, func() {}), cancel: func() {}}
			alias := ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "ACME", Repository: id.Scope.Repository}}
			r.scopes[alias] = &tracked{scope: newScope(alias, nil, r.config, func() {}), cancel: func() {}, alias: r.scopes[id]}
			other := ID{Credentials: "other", Scope: id.Scope}
			r.scopes[other] = &tracked{scope: newScope(other, nil, r.config, func() {}), cancel: func() {}}
		}
		if got := r.pollInterval("default"); got != want {
			t.Errorf("%d scopes: got %v, want %v", n, got, want)
		}
	}
}

func TestAStretchedIntervalIsInTheView(t *testing.T) {
	s := newListed()
	s.list(t)
	s.pollInterval = func() time.Duration { return 90 * time.Second }
	if s.stretch(); s.now().Interval != 90*time.Second {
		t.Errorf("got %v", s.now().Interval)
	}
}
