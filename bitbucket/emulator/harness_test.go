package emulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	"bitbucket-runner-scaler/bitbucket/emulator/registration"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// TestMain passes over net/http's wait of half a second before it closes a connection
// whose request it could not read: it ends by itself.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const (
	workspaceRunners  = "/2.0/workspaces/acme/pipelines-config/runners"
	repositoryRunners = "/2.0/repositories/acme/app/pipelines-config/runners"
	bearerAccess      = "Bearer " + AccessToken
)

// bench is an emulator under test, with time that stands still.
type bench struct {
	t      *testing.T
	url    string
	server *Server
	clock  *clocktesting.FakeClock
	client *http.Client
	auth   string
}

func start(t *testing.T, options Options) *bench {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Date(2026, 8, 1, 10, 0, 0, 0, time.UTC))
	options.Clock = clock
	url, server := NewTestServer(t, options)
	transport := &http.Transport{DisableKeepAlives: true}
	return &bench{t: t, url: url, server: server, clock: clock, auth: bearerAccess,
		client: &http.Client{Transport: transport, Timeout: 20 * time.Second}}
}

type (
	runnerBody = resource.Runner
	stepRef    = resource.StepRef
)

// page is a page of a list.
type page[T any] = paging.Page[T]

type reply struct {
	status int
	body   string
	header http.Header
}

// try makes a call that may fail.
func (b *bench) try(method, path, body string) (reply, error) {
	if !strings.HasPrefix(path, "http") {
		path = b.url + path
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if b.auth != "" {
		req.Header.Set("Authorization", b.auth)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(data), resp.Header}, err
}

// call makes a call that must be answered with the status.
func (b *bench) call(want int, method, path, body string) reply {
	b.t.Helper()
	r, err := b.try(method, path, body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	if r.status != want {
		b.t.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, want, r.body)
	}
	return r
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return v
}

func (b *bench) register(path, name string, labels ...string) runnerBody {
	b.t.Helper()
	body, err := json.Marshal(registration.Registration{Name: name, Labels: append([]string{"self.hosted", "linux"}, labels...)})
	if err != nil {
		b.t.Fatal(err)
	}
	return decode[runnerBody](b.t, b.call(http.StatusOK, http.MethodPost, path, string(body)).body)
}

// online registers a runner and sets it online by hand.
func (b *bench) online(labels ...string) string {
	b.t.Helper()
	r := b.register(workspaceRunners, "r", labels...)
	b.set(r.UUID, ActionOnline, "")
	return r.UUID
}

func (b *bench) set(uuid, action, body string) {
	b.t.Helper()
	b.call(http.StatusOK, http.MethodPost, "/_emulator/runners/"+url.PathEscape(uuid)+"/"+action, body)
}

func (b *bench) disable(uuid string) {
	b.t.Helper()
	b.call(http.StatusOK, http.MethodPut, statePath(uuid), `{"status":"DISABLED"}`)
}

func statePath(uuid string) string {
	return "/internal/workspaces/acme/pipelines-config/runners/" + url.PathEscape(uuid) + "/state"
}

func runnerPath(uuid string) string { return workspaceRunners + "/" + url.PathEscape(uuid) }

func (b *bench) queue(count int, labels ...string) []string {
	b.t.Helper()
	body, err := json.Marshal(StepRequest{Workspace: "acme", Repository: "app", Labels: labels, Duration: "1m", Count: count})
	if err != nil {
		b.t.Fatal(err)
	}
	return decode[StepsQueued](b.t, b.call(http.StatusOK, http.MethodPost, "/_emulator/steps", string(body)).body).Steps
}

func (b *bench) faults(rules ...FaultRule) {
	b.t.Helper()
	body, err := json.Marshal(FaultRules{Rules: rules})
	if err != nil {
		b.t.Fatal(err)
	}
	b.call(http.StatusNoContent, http.MethodPost, "/_emulator/faults", string(body))
}

func (b *bench) get(uuid string) runnerBody {
	b.t.Helper()
	return decode[runnerBody](b.t, b.call(http.StatusOK, http.MethodGet, runnerPath(uuid), "").body)
}

func (b *bench) list(path string) page[runnerBody] {
	b.t.Helper()
	return decode[page[runnerBody]](b.t, b.call(http.StatusOK, http.MethodGet, path, "").body)
}

// outcome is "outcome" or "outcome: cause" of a step.
func (b *bench) outcome(uuid string) string {
	b.t.Helper()
	for _, st := range b.server.State().Steps {
		if st.UUID != uuid {
			continue
		}
		if st.Cause != "" {
			return fmt.Sprintf("%s: %s", st.Outcome, st.Cause)
		}
		return st.Outcome
	}
	b.t.Fatalf("step %s is not in the state", uuid)
	return ""
}

// process authenticates as the runner's process would.
func (b *bench) process(r runnerBody) {
	b.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {r.OAuthClient.ID}, "client_secret": {r.OAuthClient.Secret}}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, r.OAuthClient.TokenEndpoint, bytes.NewBufferString(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var token oauthToken
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("authenticate: status %d, %v", resp.StatusCode, err)
	}
	b.auth = "Bearer " + token.AccessToken
}
