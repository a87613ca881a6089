package probe

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds contains credentials of every kind that the emulator accepts.
var kinds = map[string]bitbucket.Credentials{
	"OAuth consumer": {OAuthClientID: emulator.OAuthClientID, OAuthClientSecret: emulator.OAuthClientSecret},
	"API token":      {AccountEmail: emulator.Email, APIToken: emulator.APIToken},
	"app password":   {Username: emulator.Username, AppPassword: emulator.AppPassword},
	"access token":   {AccessToken: emulator.AccessToken},
}

// stage is an emulator with a client.
type stage struct {
	url     string
	server  *emulator.Server
	control *emulator.Control
	config  Config
	// onTry is called before each try of the client, with its number.
	onTry func(number int, r *http.Request)
	tries int
	// secrets are the runners' secrets in the answers.
	secrets []string
	// publicState makes the internal route to disable available under API 2.0.
	publicState bool
	// rules are the faults during a check of credentials.
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
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	// A truncated body stays truncated, and the client must notice it.
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(cmp.Or(err, io.EOF))))
	if found := runnerSecret.FindSubmatch(body); found != nil {
		s.secrets = append(s.secrets, string(found[1]))
	}
	return resp, nil
}

var runnerSecret = regexp.MustCompile(`"secret":"([^"]+)"`)

func newStage(t *testing.T, options emulator.Options, credentials bitbucket.Credentials) *stage {
	t.Helper()
	url, server := emulator.NewTestServer(t, options)
	s := &stage{url: url, server: server, control: emulator.NewControl(url)}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	s.config = Config{
		Client: s.client(t, credentials), Kind: credentials.Kind(), Scope: bitbucket.Scope{Workspace: "acme"},
		Settle: 3 * time.Second, CleanLimit: 20 * time.Second,
		// Short, but not so short that a fast machine uses up the hour's 1,000 calls.
		Pause: 25 * time.Millisecond,
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

// live runs Live and checks what must be true for every run.
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
	for _, secret := range append([]string{emulator.OAuthClientSecret, emulator.APIToken, emulator.AppPassword, emulator.AccessToken}, s.secrets...) {
		if strings.Contains(string(data), secret) {
			t.Errorf("the report contains a secret: %s", data)
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

// nothingIsLeft fails the test unless only the runners of others exist, unchanged.
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

// register registers a runner that belongs to someone else.
func (s *stage) register(t *testing.T, name string) bitbucket.Runner {
	t.Helper()
	runner, err := s.config.Client.CreateRunner(t.Context(), s.config.Scope, bitbucket.NewRunner{Name: name, Labels: []string{"self.hosted", "linux", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	return runner
}
