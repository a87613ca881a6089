package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/emulator/agent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const workspaceRunners = "/2.0/workspaces/acme/pipelines-config/runners"

// output is a log that may be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func register(t *testing.T, url string) Config {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+workspaceRunners, strings.NewReader(`{"name":"r","labels":["self.hosted","linux"]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var made struct {
		UUID        string
		OAuthClient struct {
			ID, Secret    string
			TokenEndpoint string `json:"token_endpoint"`
		} `json:"oauth_client"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("register: status %d, %v", resp.StatusCode, err)
	}
	return Config{
		AccountUUID: emulator.WorkspaceUUID, RunnerUUID: made.UUID, ClientID: made.OAuthClient.ID, ClientSecret: made.OAuthClient.Secret,
		TokenEndpoint: made.OAuthClient.TokenEndpoint, WorkingDirectory: "/tmp", PrerequisitesEnabled: "true",
		Heartbeat: 30 * time.Second, Poll: 5 * time.Millisecond,
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// run runs a runner until the test ends; stop ends it and gives its error.
func run(t *testing.T, config Config) (log *output, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log, ended := &output{}, make(chan error, 1)
	go func() { ended <- Run(ctx, config, log) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return log, stop
}

func online(s *emulator.Server) func() bool {
	return func() bool { r := s.State().Runners; return len(r) == 1 && r[0].Status == "ONLINE" }
}

func outcome(s *emulator.Server, i int, want string) func() bool {
	return func() bool { steps := s.State().Steps; return len(steps) > i && steps[i].Outcome == want }
}

func queue(t *testing.T, url, duration string, count int) {
	t.Helper()
	_, err := emulator.NewControl(url).QueueSteps(t.Context(), emulator.StepRequest{
		Workspace: "acme", Repository: "app", Labels: []string{"linux"}, Duration: duration, Count: count,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRunnerRunsStepsAndLogsAsTheRealOne(t *testing.T) {
	t.Parallel()
	url, server := emulator.NewTestServer(t, emulator.Options{AssignLag: -1})
	log, stop := run(t, register(t, url))
	waitFor(t, "the runner to be ONLINE", online(server))
	queue(t, url, "10ms", 2)
	waitFor(t, "the steps to pass", func() bool { return outcome(server, 0, "passed")() && outcome(server, 1, "passed")() })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	const uuid = `\{[0-9a-f-]{36}\}`
	getting := `Getting step StepId\{accountUuid=` + uuid + `, repositoryUuid=` + uuid + `, pipelineUuid=` + uuid + `, stepUuid=` + uuid + `\}\.`
	completing := `Completing step with result Result\{status=PASSED, error=None\}\.`
	want := []string{
		`Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds\.`,
		getting, completing, getting, completing,
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("log:\n%s", log)
	}
	for i, line := range lines {
		if !regexp.MustCompile(`^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] ` + want[i] + `$`).MatchString(line) {
			t.Errorf("line %q, want %s", line, want[i])
		}
	}
}

func TestRunnerReportsTheResultThatIsPlanned(t *testing.T) {
	t.Parallel()
	url, server := emulator.NewTestServer(t, emulator.Options{AssignLag: -1})
	if err := emulator.NewControl(url).Plan(t.Context(), emulator.StepPlan{Rules: []emulator.StepRule{{Result: "FAILED", Count: 1}, {Result: "ERROR"}}}); err != nil {
		t.Fatal(err)
	}
	log, _ := run(t, register(t, url))
	waitFor(t, "the runner to be ONLINE", online(server))
	queue(t, url, "1ms", 1)
	waitFor(t, "the first step to fail", outcome(server, 0, "failed"))
	queue(t, url, "1ms", 1)
	waitFor(t, "the second step to end with an error", outcome(server, 1, "error"))
	if got := server.State().Steps[0].Cause; got != emulator.CauseStepFailed {
		t.Errorf("the cause is %q", got)
	}
	for _, status := range []string{"FAILED", "ERROR"} {
		if want := "Result{status=" + status + ", error=None}"; !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

func TestHeartbeatsKeepARunnerOnline(t *testing.T) {
	t.Parallel()
	url, server := emulator.NewTestServer(t, emulator.Options{AssignLag: -1, OfflineAfter: 2 * time.Second})
	config := register(t, url)
	config.Heartbeat = 100 * time.Millisecond
	_, stop := run(t, config)
	waitFor(t, "the runner to be ONLINE", online(server))
	queue(t, url, "2500ms", 1)
	waitFor(t, "a step that outlives two missed heartbeats", outcome(server, 0, "passed"))
	queue(t, url, "1h", 1)
	waitFor(t, "the second step to run", outcome(server, 1, "running"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the step to be lost", outcome(server, 1, "failed"))
	state := server.State()
	if got := state.Runners[0].Status; got != "OFFLINE" || state.Counters.StepsLost[emulator.CauseDisconnected] != 1 {
		t.Errorf("status %s, counters %+v; want OFFLINE and one step lost", got, state.Counters)
	}
}

func TestRunnerSurvivesFaults(t *testing.T) {
	t.Parallel()
	url, server := emulator.NewTestServer(t, emulator.Options{AssignLag: -1})
	control := emulator.NewControl(url)
	config := register(t, url)
	if err := control.SetFaults(t.Context(), []emulator.FaultRule{
		{Path: "/oauth/token", Status: 503, Count: 1}, {Path: agent.StepPath, Status: 503, Count: 3},
		{Path: agent.ResultPath, DropAfterWrite: true, Count: 1},
	}); err != nil {
		t.Fatal(err)
	}
	log, _ := run(t, config)
	waitFor(t, "the runner to be ONLINE", online(server))
	queue(t, url, "1ms", 2)
	waitFor(t, "the steps to pass", func() bool { return outcome(server, 0, "passed")() && outcome(server, 1, "passed")() })
	for _, text := range []string{"authenticate: status 503", "/_emulator/agent/step: status 503", "/_emulator/agent/result"} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("log does not name %q:\n%s", text, log)
		}
	}
}

func TestDeletedRunnerContinuesAndLogsErrors(t *testing.T) {
	t.Parallel()
	url, server := emulator.NewTestServer(t, emulator.Options{AssignLag: -1})
	config := register(t, url)
	log, stop := run(t, config)
	waitFor(t, "the runner to be ONLINE", online(server))
	remove(t, url, config.RunnerUUID)
	waitFor(t, "a complaint", func() bool { return strings.Contains(log.String(), "status 401") })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, base, uuid string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, base+workspaceRunners+"/"+url.PathEscape(uuid), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("delete: status %d", resp.StatusCode)
	}
}

func TestEveryFaultOfTheEnvironmentIsReported(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"empty": {nil, []string{"ACCOUNT_UUID: missing", "RUNNER_UUID: missing", "OAUTH_CLIENT_ID: missing", "OAUTH_CLIENT_SECRET: missing", "OAUTH_TOKEN_ENDPOINT: missing", "WORKING_DIRECTORY: missing"}},
		"wrong": {map[string]string{"ACCOUNT_UUID": "1111", "REPOSITORY_UUID": "2222", "OAUTH_TOKEN_ENDPOINT": "here", "RUNTIME_PREREQUISITES_ENABLED": "perhaps"},
			[]string{`ACCOUNT_UUID: "1111", want a UUID in braces`, "REPOSITORY_UUID", "OAUTH_TOKEN_ENDPOINT: \"here\"", "RUNTIME_PREREQUISITES_ENABLED", "poll", "heartbeat"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := FromEnvironment(func(name string) (string, bool) { v, ok := c.env[name]; return v, ok })
			err := Run(t.Context(), config, &output{})
			if err == nil {
				t.Fatal("no error")
			}
			for _, text := range c.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not name %q", err, text)
				}
			}
		})
	}
}
