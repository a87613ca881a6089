package scope

import (
	"cmp"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestHowSoonAScopeIsListedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		failures int
		listed   bool
		want     time.Duration // more or less a twentieth
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
				if got := s.next(c.err, c.failures); got > c.want*21/20 || got < c.want*19/20 {
					t.Errorf("got %v, want %v more or less a twentieth", got, c.want)
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
	// One per minute, and a few sooner at first.
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

func TestScopesOfACredentialsSetShareItsBudget(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Minute, 13: time.Minute, 20: 80 * time.Second, 100: 400 * time.Second} {
		budgets := map[string]*bitbucket.Budget{}
		for _, name := range []string{"default", "other"} {
			budgets[name] = bitbucket.NewBudget(1000, 0.1, nil)
		}
		r, err := NewSet(Config{
			Owner: owner, Client: func(string, string) (Bitbucket, error) { return nil, nil },
			Pacer: func(credentials string) Pacer { return budgets[credentials] },
		})
		if err != nil {
			t.Fatal(err)
		}
		var first *tracked
		for i := range n {
			id := ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "acme", Repository: fmt.Sprint(i)}}
			at := r.start(Wanted{ID: id}, nil)
			alias := ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "ACME", Repository: id.Scope.Repository}}
			r.start(Wanted{ID: alias}, nil).alias = at
			r.start(Wanted{ID: ID{Credentials: "other", Scope: id.Scope}}, nil)
			first = cmp.Or(first, at)
			at.list = &bitbucket.RunnerList{}
		}
		first.next(nil, 0)
		// An hour has 61 minutes for the budget, the current one included.
		if got := first.now().Interval; got < want || got > want*11/10 {
			t.Errorf("%d scopes: got %v, want about %v", n, got, want)
		}
	}
}

// A scope that fails asks for less by itself, and leaves the calls to the others.
func TestFailingScopesLeaveTheBudgetToTheOthers(t *testing.T) {
	budget := bitbucket.NewBudget(1000, 0.1, nil)
	r, err := NewSet(Config{
		Owner: owner, Client: func(string, string) (Bitbucket, error) { return nil, nil },
		Pacer: func(string) Pacer { return budget },
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []*tracked
	for i := range 20 {
		all = append(all, r.start(Wanted{ID: ID{Scope: bitbucket.Scope{Workspace: "acme", Repository: fmt.Sprint(i)}}}, nil))
		all[i].list = &bitbucket.RunnerList{}
	}
	for _, failing := range all {
		failing.next(bitbucket.ErrUnavailable, 1)
	}
	all[19].next(nil, 0)
	if got := all[19].now().Interval; got > 90*time.Second {
		t.Errorf("got %v after the first failure of others, want no more than if all were well", got)
	}
	for _, failing := range all[:10] {
		failing.next(bitbucket.ErrNotFound, 100)
	}
	all[19].next(nil, 0)
	if got := all[19].now().Interval; got != time.Minute {
		t.Errorf("got %v, want a minute", got)
	}
}

// hurry counts the lists that a caller gets within an hour that asks for one at all times.
func hurry(t *testing.T, pacer Pacer) int {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk, Pacer: func(string) Pacer { return pacer }})
	r.Use([]Wanted{{ID: acme(), Namespace: "ns", At: clk.Now().Add(2 * time.Hour)}})
	r.until("the first list", func() bool { return !r.view(acme()).ListBegun.IsZero() })
	before := r.lists()
	for range 3600 / 5 {
		r.until("the poller to wait", clk.HasWaiters)
		r.Refresh(acme())
		clk.Step(5 * time.Second)
	}
	r.until("the poller to wait", clk.HasWaiters)
	return r.lists() - before
}

func TestListsThatAreAskedForCostAtMostAsMuchAgain(t *testing.T) {
	if n := hurry(t, unpaced{}); n < 70 || n > 135 {
		t.Errorf("%d lists in an hour, want about twice 60", n)
	}
}

// scarce has a call for an early list only from some time on.
type scarce struct {
	from  time.Time
	clock clock.PassiveClock
}

func (scarce) Pace(float64) float64 { return 7 }
func (s scarce) Hurry() bool        { return s.clock.Now().After(s.from) }

func TestARefreshIsHeardOnceThereIsACallForIt(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	pacer := scarce{clk.Now().Add(30 * time.Second), clk}
	r := start(t, Config{Clock: clk, Pacer: func(string) Pacer { return pacer }})
	r.Use([]Wanted{{ID: acme(), Namespace: "ns", At: clk.Now().Add(2 * time.Hour)}})
	r.until("the first list", func() bool { return !r.view(acme()).ListBegun.IsZero() })
	first := r.view(acme()).ListBegun
	r.Refresh(acme())
	r.until("another list", func() bool {
		if clk.HasWaiters() {
			clk.Step(5 * time.Second)
		}
		return r.view(acme()).ListBegun.After(first)
	})
	if took := r.view(acme()).ListBegun.Sub(first); took > 2*time.Minute {
		t.Errorf("it came %v after the first, want about a minute rather than seven", took)
	}
}

type noHurry struct{ unpaced }

func (noHurry) Hurry() bool { return false }

func TestNoListIsReadEarlyWithoutABudgetForIt(t *testing.T) {
	if n := hurry(t, noHurry{}); n > 67 {
		t.Errorf("%d lists in an hour, want one per interval", n)
	}
}
