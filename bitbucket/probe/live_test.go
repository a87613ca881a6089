package probe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestLiveWorksWithEveryKindOfCredentialsAndLeavesNothing(t *testing.T) {
	for name, credentials := range kinds {
		for _, repository := range []string{"", "app"} {
			t.Run(name+" "+repository, func(t *testing.T) {
				s := newStage(t, emulator.Options{}, credentials)
				s.config.Scope.Repository, s.config.Refusals = repository, true
				report, found := s.live(t.Context(), t)
				if report.Stopped != "" || len(report.Left) > 0 || report.Calls < 20 || report.Calls > 60 {
					t.Errorf("stopped %q, left %q, %d calls", report.Stopped, report.Left, report.Calls)
				}
				if len(report.Findings) != 21 {
					t.Errorf("%d findings", len(report.Findings))
				}
				want := map[string]Verdict{}
				for key := range found {
					want[key] = Holds
				}
				want[keyStep], want[keyInternalStep], want[keyLimit] = NotSeen, NotSeen, NotSeen
				if credentials.Kind() != bitbucket.KindAccessToken {
					want[keyAccessToken] = NotSeen
				}
				wantVerdicts(t, found, want)
				s.nothingIsLeft(t)
				if len(s.secrets) == 0 {
					t.Error("no answer contained a runner's secret")
				}
			})
		}
	}
}

func TestVerdictsFollowBitbucketsBehaviour(t *testing.T) {
	runners := "/2.0/workspaces/acme/pipelines-config/runners"
	for name, c := range map[string]struct {
		options emulator.Options
		busy    bool
		public  bool
		faults  []emulator.FaultRule
		want    map[string]Verdict
	}{
		"a busy runner shows its step":        {busy: true, want: map[string]Verdict{keyStep: Holds, keyInternalStep: Holds}},
		"lists hide steps":                    {options: emulator.Options{HideStep: true}, busy: true, want: map[string]Verdict{keyStep: NotSeen, keyInternalStep: NotSeen}},
		"no internal list":                    {faults: []emulator.FaultRule{{Method: "GET", Path: "/internal/*", Status: 404}}, want: map[string]Verdict{keyInternalStep: DoesNotHold, keyDisable: Holds}},
		"no route to disable":                 {faults: []emulator.FaultRule{{Method: "PUT", Path: "/internal/*/state", Status: 404}}, want: map[string]Verdict{keyDisable: DoesNotHold, keyDisabledShows: NotSeen, keyEnable: NotSeen, keyPublicPut: Holds, keyDelete: Holds}},
		"disabling is not allowed":            {faults: []emulator.FaultRule{{Method: "PUT", Path: "/internal/*/state", Status: 405}}, want: map[string]Verdict{keyDisable: DoesNotHold}},
		"disabling is accepted and not done":  {faults: []emulator.FaultRule{{Method: "PUT", Path: "/internal/*/state", Status: 200}}, want: map[string]Verdict{keyDisable: DoesNotHold, keyDisabledShows: DoesNotHold, keyEnable: NotSeen}},
		"disabling takes effect late":         {faults: []emulator.FaultRule{{Method: "PUT", Path: "/internal/*/state", ApplyAfter: "100ms"}}, want: map[string]Verdict{keyDisable: Holds, keyEnable: Holds}},
		"disabling fails":                     {faults: []emulator.FaultRule{{Method: "PUT", Path: "/internal/*/state", Status: 503}}, want: map[string]Verdict{keyDisable: NotSeen, keyEnable: NotSeen, keyPublicState: Holds}},
		"2.0 has a route to disable":          {public: true, want: map[string]Verdict{keyPublicState: DoesNotHold, keyPublicPut: Holds}},
		"lists lag":                           {faults: []emulator.FaultRule{{Method: "GET", Path: runners, StaleFor: "100ms"}}, want: map[string]Verdict{keyCreateLag: Holds, keyDeleteLag: Holds}},
		"lists lag for longer than is waited": {faults: []emulator.FaultRule{{Method: "GET", Path: runners, StaleFor: "5m"}}, want: map[string]Verdict{keyCreateLag: DoesNotHold}},
		"an empty list":                       {faults: []emulator.FaultRule{{Method: "GET", Path: runners, EmptyList: true}}, want: map[string]Verdict{keyCreateLag: DoesNotHold, keyDelete: Holds}},
		"deletion is not possible at first":   {faults: []emulator.FaultRule{{Method: "DELETE", Status: 409, Count: 1}}, want: map[string]Verdict{keyDelete: DoesNotHold}},
		"deletion takes effect late":          {faults: []emulator.FaultRule{{Method: "DELETE", ApplyAfter: "4s"}}, want: map[string]Verdict{keyDelete: DoesNotHold}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait until a timeout
			s := newStage(t, c.options, kinds["OAuth consumer"])
			s.publicState = c.public
			others := s.register(t, "others")
			if c.busy {
				for _, action := range []string{emulator.ActionOnline, emulator.ActionStep} {
					if err := s.control.SetRunner(t.Context(), others.UUID, action, ""); err != nil {
						t.Fatal(err)
					}
				}
			}
			s.faults(t, c.faults...)
			report, found := s.live(t.Context(), t)
			if len(report.Left) > 0 {
				t.Errorf("left %q", report.Left)
			}
			wantVerdicts(t, found, c.want)
			s.nothingIsLeft(t, "others")
			if s.server.State().Counters.BusyRunnersDeleted > 0 {
				t.Error("a busy runner was deleted")
			}
		})
	}
}

func TestRefusalStopsTheCheckWithAReason(t *testing.T) {
	list := "/2.0/workspaces/acme/pipelines-config/runners"
	for name, c := range map[string]struct {
		credentials bitbucket.Credentials
		options     emulator.Options
		scope       bitbucket.Scope
		faults      []emulator.FaultRule
		stopped     string
		left        bool
		want        map[string]Verdict
	}{
		"unknown credentials":     {credentials: bitbucket.Credentials{AccessToken: "wrong-token"}, stopped: "401: Token is invalid"},
		"unknown consumer":        {credentials: bitbucket.Credentials{OAuthClientID: "x", OAuthClientSecret: "wrong-secret"}, stopped: "the OAuth consumer must be private"},
		"a token that only reads": {credentials: bitbucket.Credentials{AccessToken: emulator.ReadOnlyToken}, stopped: `"required":["runner:write"]`, want: map[string]Verdict{keyAccessToken: DoesNotHold}},
		"forbidden":               {faults: []emulator.FaultRule{{Method: "GET", Status: 403}}, stopped: "the runners of acme cannot be listed: 403: Forbidden"},
		"throttled at once":       {faults: []emulator.FaultRule{{Status: 429}}, stopped: "status 429"},
		"no such workspace":       {scope: bitbucket.Scope{Workspace: "nobody"}, stopped: "404: No workspace"},
		"registering fails":       {faults: []emulator.FaultRule{{Method: "POST", Path: list, Status: 503}}, stopped: "the registration failed"},
		"answers are lost":        {faults: []emulator.FaultRule{{Method: "POST", Path: list, DropAfterWrite: true}}, stopped: "outcome unknown"},
		"lost and applied late":   {faults: []emulator.FaultRule{{Method: "POST", Path: list, DropAfterWrite: true, ApplyAfter: "200ms"}}, stopped: "outcome unknown"},
		"truncated answers":       {faults: []emulator.FaultRule{{Method: "POST", Path: list, Truncate: true}}, stopped: "outcome unknown"},
		"no runner in the answer": {faults: []emulator.FaultRule{{Method: "POST", Path: list, Status: 200}}, stopped: "has no runner"},
		"throttled in the middle": {faults: []emulator.FaultRule{{Method: "PUT", Status: 429}}, stopped: "429", want: map[string]Verdict{keyRegister: Holds, keyDisable: NotSeen}},
		"refused in the middle":   {faults: []emulator.FaultRule{{Method: "PUT", Status: 401}}, stopped: "401", want: map[string]Verdict{keyCreateLag: Holds, keyDisable: NotSeen}},
	} {
		t.Run(name, func(t *testing.T) {
			credentials := c.credentials
			if credentials.Kind() == "" {
				credentials = kinds["OAuth consumer"]
			}
			s := newStage(t, c.options, credentials)
			if c.scope.Workspace != "" {
				s.config.Scope = c.scope
			}
			s.faults(t, c.faults...)
			report, found := s.live(t.Context(), t)
			if !strings.Contains(report.Stopped, c.stopped) {
				t.Errorf("stopped %q, want %q", report.Stopped, c.stopped)
			}
			if len(report.Left) > 0 {
				t.Errorf("left %q", report.Left)
			}
			wantVerdicts(t, found, c.want)
			s.nothingIsLeft(t)
		})
	}
}

func TestFullScopeReportsTheTextOfItsLimit(t *testing.T) {
	s := newStage(t, emulator.Options{RateLimit: -1}, kinds["access token"])
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("r%d", i))
		s.register(t, names[i])
	}
	report, found := s.live(t.Context(), t)
	if !strings.Contains(report.Stopped, "The maximum of 100 runners") {
		t.Errorf("stopped %q", report.Stopped)
	}
	wantVerdicts(t, found, map[string]Verdict{keyLimit: Holds, keyRegister: NotSeen})
	s.nothingIsLeft(t, names...)
}

func TestLastFreePlacesAreNotUsed(t *testing.T) {
	s := newStage(t, emulator.Options{RateLimit: -1}, kinds["access token"])
	for i := range 97 {
		s.register(t, fmt.Sprintf("r%d", i))
	}
	report, _ := s.live(t.Context(), t)
	if state := s.server.State(); !strings.Contains(report.Stopped, "97 of 100 places of acme are taken") || state.Counters.PeakRegistered["acme"] != 97 {
		t.Errorf("stopped %q, peak %v", report.Stopped, state.Counters.PeakRegistered)
	}
}

func TestInterruptAtAnyCallLeavesNothing(t *testing.T) {
	whole := newStage(t, emulator.Options{}, kinds["API token"])
	whole.config.Refusals = true
	looked := 0
	whole.config.Progress = func(string) { looked = whole.tries } // the last value is that at the beginning of the cleanup
	whole.live(t.Context(), t)
	for number := 1; number <= whole.tries; number++ {
		t.Run(fmt.Sprintf("call %d", number), func(t *testing.T) {
			s := newStage(t, emulator.Options{}, kinds["API token"])
			s.config.Refusals = true
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.onTry = func(n int, _ *http.Request) {
				if n == number {
					cancel()
				}
			}
			report, _ := s.live(ctx, t)
			if (report.Stopped == "interrupted") != (number <= looked) || len(report.Left) > 0 {
				t.Errorf("stopped %q, left %q", report.Stopped, report.Left)
			}
			s.nothingIsLeft(t)
		})
	}
}

func TestInterruptDuringACallEndsItAndLeavesNothing(t *testing.T) {
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		t.Run(method, func(t *testing.T) {
			s := newStage(t, emulator.Options{}, kinds["API token"])
			s.faults(t, emulator.FaultRule{Method: method, Path: "*/pipelines-config/runners*", Latency: "200ms", Count: 1})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.onTry = func(_ int, r *http.Request) {
				if r.Method == method {
					time.AfterFunc(50*time.Millisecond, cancel)
				}
			}
			report, _ := s.live(ctx, t)
			if report.Stopped != "interrupted" || len(report.Left) > 0 {
				t.Errorf("stopped %q, left %q", report.Stopped, report.Left)
			}
			s.nothingIsLeft(t)
		})
	}
}

func TestRunnersThatCannotBeDeletedAreReported(t *testing.T) {
	s := newStage(t, emulator.Options{}, kinds["API token"])
	s.config.CleanLimit = 100 * time.Millisecond
	s.faults(t, emulator.FaultRule{Method: "DELETE", Status: 403})
	report, found := s.live(t.Context(), t)
	state := s.server.State()
	if len(state.Runners) != 1 || len(report.Left) != 1 || report.Left[0] != report.Runner+" "+state.Runners[0].UUID {
		t.Errorf("left %q, want the runner of %+v", report.Left, state.Runners)
	}
	wantVerdicts(t, found, map[string]Verdict{keyDelete: DoesNotHold})

	s.faults(t)
	again, _ := s.live(t.Context(), t)
	if len(again.Earlier) != 1 || again.Earlier[0] != report.Left[0] || len(again.Left) > 0 {
		t.Errorf("earlier ones %q, want %q; left %q", again.Earlier, report.Left, again.Left)
	}
	s.nothingIsLeft(t, report.Runner) // it may belong to a check in progress
}

func TestAllFaultsOfTheConfigurationAreReported(t *testing.T) {
	_, err := Live(t.Context(), Config{Scope: bitbucket.Scope{Workspace: "a/b"}, Settle: -1})
	for _, want := range []string{"client: missing", `workspace "a/b"`, "settle: -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
