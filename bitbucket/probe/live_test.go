package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds are credentials of every kind that the emulator accepts.
var kinds = map[string]bitbucket.Credentials{
	"OAuth consumer": {OAuthClientID: emulator.OAuthClientID, OAuthClientSecret: emulator.OAuthClientSecret},
	"API token":      {AccountEmail: emulator.Email, APIToken: emulator.APIToken},
	"app password":   {Username: emulator.Username, AppPassword: emulator.AppPassword},
	"access token":   {AccessToken: emulator.AccessToken},
}

// stage is an emulator with a client of it.
type stage struct {
	url     string
	server  *emulator.Server
	control *emulator.Control
	config  Config
	// onTry is called before each try that the client sends, by its number.
	onTry func(number int, r *http.Request)
	tries int
	// publicState makes API 2.0 have the route to disable that it has under /internal.
	publicState bool
	// rules are the faults of a look at credentials.
	rules []emulator.FaultRule
}

// RoundTrip implements http.RoundTripper.
func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	s.tries++
	if s.onTry != nil {
		s.onTry(s.tries, r)
	}
	if path, is := strings.CutPrefix(r.URL.Path, "/2.0/"); is && s.publicState && strings.HasSuffix(path, "/state") {
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = "/internal/"+path, ""
	}
	return http.DefaultTransport.RoundTrip(r)
}

func newStage(t *testing.T, options emulator.Options, credentials bitbucket.Credentials) *stage {
	t.Helper()
	url, server := emulator.NewTestServer(t, options)
	s := &stage{url: url, server: server, control: emulator.NewControl(url)}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	s.config = Config{
		Client: s.client(t, credentials), Kind: credentials.Kind(), Scope: bitbucket.Scope{Workspace: "acme"},
		Settle: 300 * time.Millisecond, Pause: 5 * time.Millisecond, CleanLimit: 20 * time.Second,
	}
	return s
}

func (s *stage) client(t *testing.T, credentials bitbucket.Credentials) *bitbucket.Client {
	t.Helper()
	client, err := bitbucket.NewClient(bitbucket.Config{
		BaseURL: s.url, OAuthURL: s.url + "/site/oauth2/access_token", Credentials: credentials, Transport: s,
		Timeout: 10 * time.Second, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (s *stage) faults(t *testing.T, rules ...emulator.FaultRule) {
	t.Helper()
	if err := s.control.SetFaults(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
}

// live makes the look and checks what must hold of every one.
func (s *stage) live(ctx context.Context, t *testing.T) (Report, map[string]Finding) {
	t.Helper()
	report, err := Live(ctx, s.config)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{emulator.OAuthClientSecret, emulator.APIToken, emulator.AppPassword, emulator.AccessToken} {
		if strings.Contains(string(data), secret) {
			t.Errorf("the report shows a secret: %s", data)
		}
	}
	found := map[string]Finding{}
	for _, finding := range report.Findings {
		if finding.Found == "" || finding.Verdict == "" || finding.Claim == "" || finding.Scaler == "" {
			t.Errorf("an incomplete finding: %+v", finding)
		}
		found[finding.Key] = finding
	}
	return report, found
}

// nothingIsLeft wants none of our runners, and those of others untouched.
func (s *stage) nothingIsLeft(t *testing.T, others ...string) {
	t.Helper()
	state := s.server.State()
	var names []string
	for _, runner := range state.Runners {
		names = append(names, runner.Name)
	}
	if strings.Join(names, " ") != strings.Join(others, " ") {
		t.Errorf("runners %q are left, want %q", names, others)
	}
}

func wantVerdicts(t *testing.T, found map[string]Finding, want map[string]Verdict) {
	t.Helper()
	for key, verdict := range want {
		if found[key].Verdict != verdict {
			t.Errorf("%s: got %q (%s), want %q", key, found[key].Verdict, found[key].Found, verdict)
		}
	}
}

func TestEveryKindOfCredentialsIsLookedAtAndNothingIsLeft(t *testing.T) {
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
			})
		}
	}
}

// register puts a runner of somebody else's there.
func (s *stage) register(t *testing.T, name string) bitbucket.Runner {
	t.Helper()
	runner, err := s.config.Client.CreateRunner(t.Context(), s.config.Scope, bitbucket.NewRunner{Name: name, Labels: []string{"self.hosted", "linux", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	return runner
}

func TestWhatBitbucketDoesDecidesTheVerdict(t *testing.T) {
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
		"deletion takes effect late":          {faults: []emulator.FaultRule{{Method: "DELETE", ApplyAfter: "500ms"}}, want: map[string]Verdict{keyDelete: DoesNotHold}},
	} {
		t.Run(name, func(t *testing.T) {
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

func TestARefusalStopsTheLookAndSaysWhy(t *testing.T) {
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
		"answers are cut off":     {faults: []emulator.FaultRule{{Method: "POST", Path: list, DropAfterWrite: true}}, stopped: "outcome unknown"},
		"and are late as well":    {faults: []emulator.FaultRule{{Method: "POST", Path: list, DropAfterWrite: true, ApplyAfter: "200ms"}}, stopped: "outcome unknown"},
		"cut off and garbled":     {faults: []emulator.FaultRule{{Method: "POST", Path: list, Truncate: true}}, stopped: "outcome unknown"},
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

func TestAFullScopeShowsTheTextOfItsLimit(t *testing.T) {
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

func TestTheLastPlacesAreLeftAlone(t *testing.T) {
	s := newStage(t, emulator.Options{RateLimit: -1}, kinds["access token"])
	for i := range 97 {
		s.register(t, fmt.Sprintf("r%d", i))
	}
	report, _ := s.live(t.Context(), t)
	if state := s.server.State(); !strings.Contains(report.Stopped, "97 of 100 places of acme are taken") || state.Counters.PeakRegistered["acme"] != 97 {
		t.Errorf("stopped %q, peak %v", report.Stopped, state.Counters.PeakRegistered)
	}
}

func TestAnInterruptAtAnyCallLeavesNothing(t *testing.T) {
	whole := newStage(t, emulator.Options{}, kinds["API token"])
	whole.config.Refusals = true
	looked := 0
	whole.config.Progress = func(string) { looked = whole.tries } // at last as it begins to clean up
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

func TestAnInterruptDuringACallEndsItAndLeavesNothing(t *testing.T) {
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

func TestWhatCannotBeDeletedIsNamed(t *testing.T) {
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
	s.nothingIsLeft(t, report.Runner) // it may be of a look that is under way
}

func TestFaultsOfTheConfigurationComeAtOnce(t *testing.T) {
	_, err := Live(t.Context(), Config{Scope: bitbucket.Scope{Workspace: "a/b"}, Settle: -1})
	for _, want := range []string{"client: missing", `workspace "a/b"`, "settle: -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
