package scope

import (
	"net/http"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// routed is a Set that lists one scope with a busy runner, whose step Bitbucket hides in
// some lists.
type routed struct {
	*rig
	clock *clocktesting.FakeClock
}

func startRouted(t *testing.T, rules ...emulator.FaultRule) routed {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Now())
	r := routed{start(t, Config{Clock: clk}), clk}
	r.want(acme())
	runner := r.mustCreate("busy")
	for _, action := range []string{emulator.ActionOnline, emulator.ActionStep} {
		if err := r.control.SetRunner(t.Context(), runner.UUID, action, "{99999999-9999-4999-8999-999999999999}"); err != nil {
			t.Fatal(err)
		}
	}
	r.faults(rules...)
	return r
}

// next waits for the next list, whose lack of a step the sidecar contradicts, as the fleet
// finds more than once.
func (r routed) next() *View {
	r.t.Helper()
	last := r.view(acme()).ListBegun
	r.until("the next list", func() bool {
		if r.clock.HasWaiters() {
			r.clock.Step(20 * time.Second)
		}
		return r.view(acme()).ListBegun.After(last)
	})
	view := r.view(acme())
	if !view.listShowsSteps {
		for range 3 {
			r.DistrustSteps(acme(), view.ListBegun)
		}
	}
	return view
}

// listsBy counts the lists by one of the two routes.
func (r routed) listsBy(root string) int {
	r.t.Helper()
	state, err := r.control.State(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return state.Counters.Calls["GET "+root+"/workspaces/{workspace}/pipelines-config/runners"]
}

func hidden(path string) emulator.FaultRule {
	return emulator.FaultRule{Method: http.MethodGet, Path: path, HideStep: true}
}

func TestInternalListIsUsedWhereThePublicOneShowsNoSteps(t *testing.T) {
	r := startRouted(t, hidden("/2.0/*"))
	for i, shown := range []bool{false, true, true, true} {
		if got := r.next().listShowsSteps; got != shown {
			t.Errorf("list %d shows steps: %v, want %v", i, got, shown)
		}
	}
	if n := r.listsBy("/2.0"); n > 3 {
		t.Errorf("%d public lists, want none after the internal one has shown steps", n)
	}
}

func TestInternalListIsLeftAloneForAnHourIfItIsOfNoUse(t *testing.T) {
	for name, rules := range map[string][]emulator.FaultRule{
		"it shows no steps either": {hidden("/2.0/*"), hidden("/internal/*")},
		"it does not exist":        {hidden("/2.0/*"), {Method: http.MethodGet, Path: "/internal/*", Status: http.StatusNotFound}},
		"it fails":                 {hidden("/2.0/*"), {Method: http.MethodGet, Path: "/internal/*", Status: http.StatusInternalServerError}},
		"it cannot be read":        {hidden("/2.0/*"), {Method: http.MethodGet, Path: "/internal/*", Truncate: true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRouted(t, rules...)
			for range 10 {
				if view := r.next(); view.listShowsSteps || view.Err != nil {
					t.Fatalf("got %+v", view)
				}
			}
			if n := r.listsBy("/internal"); n != 1 {
				t.Errorf("%d internal lists, want one", n)
			}
			r.faults(hidden("/2.0/*"))
			for range 65 {
				r.next()
			}
			if view := r.next(); !view.listShowsSteps {
				t.Error("it is not tried again after an hour")
			}
		})
	}
}
