package scope

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// during lets time pass on the clock of a rig, and asks for the scope all the while.
func (r *rig) during(clk *clocktesting.FakeClock, id ID, d time.Duration) NotFound {
	r.t.Helper()
	for range d / (5 * time.Second) {
		r.until("the poller to wait", clk.HasWaiters)
		r.Use([]Wanted{{ID: id, Namespace: "ns", At: clk.Now()}})
		clk.Step(5 * time.Second)
	}
	r.until("the poller to wait", clk.HasWaiters)
	return r.view(id).NotFound
}

func (r *rig) change(action, slug string) {
	r.t.Helper()
	if err := r.control.ChangeWorkspace(r.t.Context(), "acme", action, slug); err != nil {
		r.t.Fatal(err)
	}
}

func TestADeletedScopeIsGoneOnlyAfterALongTimeOf404s(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk})
	r.want(acme())
	// For an hour, Bitbucket answers 404 for a single list, and for some minutes.
	r.faults(emulator.FaultRule{Method: "GET", Path: "*/runners", Status: 404, Count: 1})
	if got := r.during(clk, acme(), 5*time.Minute); got != (NotFound{}) {
		t.Errorf("after one 404: %+v", got)
	}
	r.faults(emulator.FaultRule{Method: "GET", Path: "*", Status: 404})
	got := r.during(clk, acme(), 8*time.Minute)
	if got.Gone || got.Since.IsZero() {
		t.Errorf("after 404s for 8 minutes: %+v, want not gone, but since when", got)
	}
	// An outage in between proves nothing, neither that the scope is there nor that it is
	// gone, for which the series begins again.
	since := got.Since
	r.faults(emulator.FaultRule{Method: "GET", Path: "*", Status: 503})
	if got := r.during(clk, acme(), 10*time.Minute); got != (NotFound{Since: since}) {
		t.Errorf("in an outage: %+v, want not found since %v", got, since)
	}
	r.faults(emulator.FaultRule{Method: "GET", Path: "*", Status: 404})
	if got := r.during(clk, acme(), 8*time.Minute); got.Gone || !got.Since.Equal(since) {
		t.Errorf("after the outage: %+v, want it not gone, and not found since %v", got, since)
	}
	// Its runners are not found for long, but it is.
	r.faults(emulator.FaultRule{Method: "GET", Path: "*/runners", Status: 404})
	if got := r.during(clk, acme(), time.Hour); got.Gone {
		t.Error("it is gone although Bitbucket shows the workspace")
	}
	r.faults()
	if got := r.during(clk, acme(), 10*time.Minute); got != (NotFound{}) {
		t.Errorf("found again: %+v", got)
	}
	r.change(emulator.ActionDelete, "")
	if got := r.during(clk, acme(), 8*time.Minute); got.Gone {
		t.Errorf("deleted 8 minutes ago: %+v, want it not believed yet", got)
	}
	if got := r.during(clk, acme(), 10*time.Minute); !got.Gone || got.Renamed {
		t.Errorf("deleted 18 minutes ago: %+v, want gone", got)
	}
}

func TestARenamedScopeIsListedByItsUUIDAndSaysSo(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk, RetryInterval: time.Minute})
	r.want(acme())
	r.change(emulator.ActionRename, "inc")
	got := r.during(clk, acme(), slugEvery+10*time.Minute)
	if !got.Renamed || got.Gone || got.Since.IsZero() || r.view(acme()).Err != nil || clk.Since(r.view(acme()).ListBegun) > 5*time.Minute {
		t.Errorf("got %+v, the last list %v ago: %v; want it renamed, and listed all the same", got, clk.Since(r.view(acme()).ListBegun), r.view(acme()).Err)
	}
	if calls := r.calls("GET", "/2.0/workspaces/{workspace}"); calls > 3 {
		t.Errorf("%d calls for the slug in six hours", calls)
	}
}

func TestASlugThatWasNeverFoundIsNotGone(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := start(t, Config{Clock: clk})
	typo := ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "amce"}}
	r.Use([]Wanted{{ID: typo, Namespace: "ns", At: clk.Now()}})
	if got := r.during(clk, typo, time.Hour); got.Gone || got.Since.IsZero() {
		t.Errorf("got %+v, want not found, and not gone: it may have been renamed", got)
	}
}
