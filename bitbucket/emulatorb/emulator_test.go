package emulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bitbucket-runner-scaler/bitbucket/emulatorb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const patience = 30 * time.Second

// api is a client that knows nothing but the wire.
type api struct {
	t    *testing.T
	base string
	auth string
}

func start(t *testing.T, options emulator.Options) (*api, *emulator.Control) {
	t.Helper()
	server, _ := emulator.NewTestServer(t, options)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return &api{t: t, base: server.URL, auth: "Bearer emulator-access-token"}, emulator.NewControl(server.URL)
}

func (a *api) as(auth string) *api { return &api{t: a.t, base: a.base, auth: auth} }

// call answers with status, body and headers; status 0 is a broken connection.
func (a *api) call(method, path, body string) (int, map[string]any, http.Header) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if a.auth != "" {
		req.Header.Set("Authorization", a.auth)
	}
	if strings.HasPrefix(body, "grant_type") {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, nil
	}
	var decoded map[string]any
	if json.Unmarshal(raw, &decoded) != nil {
		decoded = map[string]any{"text": string(raw)}
	}
	return resp.StatusCode, decoded, resp.Header
}

func (a *api) want(status int, method, path, body string) map[string]any {
	a.t.Helper()
	got, decoded, _ := a.call(method, path, body)
	if got != status {
		a.t.Fatalf("%s %s: got %d %v, want %d", method, path, got, decoded, status)
	}
	return decoded
}

const runners = "/2.0/workspaces/acme/pipelines-config/runners"

func (a *api) register(labels ...string) string {
	a.t.Helper()
	body, err := json.Marshal(map[string]any{"name": "test", "labels": append([]string{"self.hosted", "linux"}, labels...)})
	if err != nil {
		a.t.Fatal(err)
	}
	uuid, _ := a.want(http.StatusOK, "POST", runners, string(body))["uuid"].(string)
	return uuid
}

func (a *api) status(uuid string) string {
	a.t.Helper()
	state, _ := a.want(http.StatusOK, "GET", runners+"/"+url.PathEscape(uuid), "")["state"].(map[string]any)
	status, _ := state["status"].(string)
	return status
}

// until waits for a state of the emulator.
func until(t *testing.T, control *emulator.Control, what string, done func(emulator.State) bool) emulator.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		state, err := control.State(ctx)
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		if done(state) {
			return state
		}
	}
}

func TestRunnerLifeOnBothApisByAnySpelling(t *testing.T) {
	a, _ := start(t, emulator.Options{})
	for _, base := range []string{
		"/2.0/workspaces/acme", "/2.0/workspaces/%7B11111111-1111-4111-8111-111111111111%7D", "/internal/workspaces/acme",
		"/2.0/repositories/acme/app", "/internal/repositories/%7B11111111-1111-4111-8111-111111111111%7D/web",
	} {
		path := base + "/pipelines-config/runners"
		created := a.want(http.StatusOK, "POST", path, `{"name":"n","labels":["self.hosted","linux","my.group"]}`)
		uuid, _ := created["uuid"].(string)
		client, _ := created["oauth_client"].(map[string]any)
		if uuid == "" || client["secret"] == nil || client["token_endpoint"] == "" {
			t.Fatalf("%s: created %v, want a uuid and the secret", base, created)
		}
		one := path + "/" + url.PathEscape(uuid)
		shown := a.want(http.StatusOK, "GET", one, "")
		if client, _ := shown["oauth_client"].(map[string]any); client["secret"] != nil {
			t.Errorf("%s: the secret was shown again", base)
		}
		if state, _ := shown["state"].(map[string]any); state["status"] != "UNREGISTERED" || state["step"] != nil {
			t.Errorf("%s: state %v, want UNREGISTERED without a step", base, shown["state"])
		}
		list := a.want(http.StatusOK, "GET", path+"/", "")
		if list["size"] != 1.0 || list["pagelen"] != 1.0 || list["next"] != nil {
			t.Errorf("%s: list %v, want one", base, list)
		}
		a.want(http.StatusNoContent, "DELETE", one, "")
		a.want(http.StatusNotFound, "DELETE", one, "")
		a.want(http.StatusNotFound, "GET", one, "")
	}
	a.want(http.StatusNotFound, "GET", "/2.0/workspaces/unknown/pipelines-config/runners", "")
	a.want(http.StatusNotFound, "GET", "/2.0/repositories/acme/unknown/pipelines-config/runners", "")
	if got := a.want(http.StatusOK, "GET", "/2.0/workspaces/acme", "")["uuid"]; got != "{11111111-1111-4111-8111-111111111111}" {
		t.Errorf("workspace uuid %v", got)
	}
	if got := a.want(http.StatusOK, "GET", "/2.0/repositories/acme/app", "")["full_name"]; got != "acme/app" {
		t.Errorf("repository %v", got)
	}
}

func TestDisablingIsInternalAlone(t *testing.T) {
	a, _ := start(t, emulator.Options{})
	uuid := url.PathEscape(a.register("g"))
	a.want(http.StatusNotFound, "PUT", runners+"/"+uuid+"/state", `{"status":"DISABLED"}`)
	internal := strings.Replace(runners, "2.0", "internal", 1) + "/" + uuid + "/state"
	a.want(http.StatusOK, "PUT", internal, `{"status":"DISABLED"}`)
	if got := a.status("{" + strings.Trim(strings.NewReplacer("%7B", "", "%7D", "").Replace(uuid), "{}") + "}"); got != "DISABLED" {
		t.Errorf("got %s", got)
	}
	a.want(http.StatusOK, "PUT", internal, `{"status":"ENABLED"}`)
	a.want(http.StatusBadRequest, "PUT", internal, `{"status":"SLEEPING"}`)
}

func TestBadRunnersAreRefused(t *testing.T) {
	a, _ := start(t, emulator.Options{})
	for name, body := range map[string]string{
		"no json": `{`, "no name": `{"labels":["linux"]}`, "no labels": `{"name":"x"}`, "capitals": `{"name":"x","labels":["My"]}`,
		"eleven custom labels": `{"name":"x","labels":["a","b","c","d","e","f","g","h","i","j","k"]}`,
		"long name":            `{"name":"` + strings.Repeat("x", 51) + `","labels":["a"]}`, "bad uuid": `{"name":"x","labels":["a"],"uuid":"1"}`,
	} {
		if got, decoded, _ := a.call("POST", runners, body); got != http.StatusBadRequest || decoded["type"] != "error" {
			t.Errorf("%s: got %d %v, want 400", name, got, decoded)
		}
	}
	uuid := a.register("g")
	a.want(http.StatusConflict, "POST", runners, `{"name":"x","labels":["a"],"uuid":"`+uuid+`"}`)
}

func TestAtMostAHundredRunnersAScope(t *testing.T) {
	a, control := start(t, emulator.Options{})
	for range 100 {
		a.register("g")
	}
	got := a.want(http.StatusBadRequest, "POST", runners, `{"name":"x","labels":["a"]}`)
	if e, _ := got["error"].(map[string]any); !strings.Contains(e["message"].(string), "limit") {
		t.Errorf("got %v, want it to speak of the limit", got)
	}
	a.want(http.StatusOK, "POST", "/2.0/repositories/acme/app/pipelines-config/runners", `{"name":"x","labels":["a"]}`)
	first := a.want(http.StatusOK, "GET", runners, "")
	if len(first["values"].([]any)) != 10 || first["size"] != 100.0 {
		t.Errorf("the first page holds %v of %v, want 10 of 100", len(first["values"].([]any)), first["size"])
	}
	next, _ := first["next"].(string)
	second := a.want(http.StatusOK, "GET", strings.TrimPrefix(next, a.base), "")
	if second["page"] != 2.0 || second["previous"] == nil {
		t.Errorf("next leads to %v", second["page"])
	}
	if all := a.want(http.StatusOK, "GET", runners+"?pagelen=100", ""); len(all["values"].([]any)) != 100 || all["next"] != nil {
		t.Errorf("a page of 100 holds %d", len(all["values"].([]any)))
	}
	a.want(http.StatusBadRequest, "GET", runners+"?pagelen=101", "")
	state, err := control.State(t.Context())
	if err != nil || state.Counters.PeakRegistered["acme"] != 100 {
		t.Errorf("peak %v, %v", state.Counters.PeakRegistered, err)
	}
}

func TestWhoMayCall(t *testing.T) {
	a, _ := start(t, emulator.Options{})
	a.as("").want(http.StatusUnauthorized, "GET", runners, "")
	a.as("Bearer wrong").want(http.StatusUnauthorized, "GET", runners, "")
	a.as("Basic ZGV2QGV4YW1wbGUuY29tOmVtdWxhdG9yLXRva2Vu").want(http.StatusOK, "GET", runners, "")
	forbidden := a.as("Bearer emulator-readonly-token").want(http.StatusForbidden, "POST", runners, `{"name":"x","labels":["a"]}`)
	detail, _ := forbidden["error"].(map[string]any)["detail"].(map[string]any)
	if detail["required"] == nil || detail["granted"] == nil {
		t.Errorf("got %v, want what is required and what is granted", forbidden)
	}
	consumer := a.as("Basic ZW11bGF0b3ItY2xpZW50OmVtdWxhdG9yLXNlY3JldA==")
	token, _ := consumer.want(http.StatusOK, "POST", "/site/oauth2/access_token", "grant_type=client_credentials")["access_token"].(string)
	a.as("Bearer "+token).want(http.StatusOK, "GET", runners, "")
	consumer.want(http.StatusBadRequest, "POST", "/site/oauth2/access_token", "grant_type=password")
	a.as("").want(http.StatusUnauthorized, "POST", "/site/oauth2/access_token", "grant_type=client_credentials")
}

func TestAllowanceOfAnHour(t *testing.T) {
	a, control := start(t, emulator.Options{RateLimit: 3})
	for range 3 {
		a.want(http.StatusOK, "GET", runners, "")
	}
	status, body, header := a.call("GET", runners, "")
	if status != http.StatusTooManyRequests || body["text"] == nil || header.Get("X-RateLimit-Limit") != "3" || header.Get("X-RateLimit-NearLimit") != "true" {
		t.Errorf("got %d %v %v, want 429 in plain text with the access token's headers", status, body, header)
	}
	basic := a.as("Basic ZGV2QGV4YW1wbGUuY29tOmVtdWxhdG9yLXRva2Vu")
	if status, _, header := basic.call("GET", runners, ""); status != http.StatusOK || header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("another identity: got %d with headers %v", status, header)
	}
	if state, err := control.State(t.Context()); err != nil || state.Counters.TooManyRequests != 1 {
		t.Errorf("counted %d, %v", state.Counters.TooManyRequests, err)
	}
}

func queue(t *testing.T, control *emulator.Control, labels []string, count int, duration string) []string {
	t.Helper()
	uuids, err := control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: labels, Count: count, Duration: duration})
	if err != nil {
		t.Fatal(err)
	}
	return uuids
}

func outcome(state emulator.State, uuid string) (string, string) {
	for _, step := range state.Steps {
		if step.UUID == uuid {
			return step.Outcome, step.Cause
		}
	}
	return "absent", ""
}

func TestStepsFindTheirRunners(t *testing.T) {
	a, control := start(t, emulator.Options{})
	failed := queue(t, control, []string{"linux", "g"}, 1, "1s")[0]
	state := until(t, control, "the step to fail for want of a runner", func(s emulator.State) bool { o, _ := outcome(s, failed); return o == "failed" })
	if _, cause := outcome(state, failed); cause != emulator.CauseNoRunner || state.Counters.StepsFailedNoRunner != 1 {
		t.Errorf("cause %q, counted %d", cause, state.Counters.StepsFailedNoRunner)
	}
	uuid := a.register("g", "h")
	if err := control.SetRunner(t.Context(), uuid, "online", ""); err != nil {
		t.Fatal(err)
	}
	steps := queue(t, control, []string{"linux", "g"}, 2, "1s")
	state = until(t, control, "one to run", func(s emulator.State) bool { o, _ := outcome(s, steps[0]); return o == "running" })
	if o, _ := outcome(state, steps[1]); o != "queued" {
		t.Errorf("with all matching runners busy the step is %s, want queued", o)
	}
	other := queue(t, control, []string{"linux", "g", "gpu"}, 1, "1s")[0]
	until(t, control, "a step with a label that no runner has to fail", func(s emulator.State) bool { o, _ := outcome(s, other); return o == "failed" })
	if err := control.SetRunner(t.Context(), uuid, "idle", ""); err != nil {
		t.Fatal(err)
	}
	state = until(t, control, "the second to run", func(s emulator.State) bool { o, _ := outcome(s, steps[1]); return o == "running" })
	if state.Counters.RunnersReused != 1 {
		t.Errorf("reused %d", state.Counters.RunnersReused)
	}
	a.want(http.StatusNoContent, "DELETE", runners+"/"+url.PathEscape(uuid), "")
	state = until(t, control, "the deleted runner's step to be lost", func(s emulator.State) bool { o, _ := outcome(s, steps[1]); return o == "failed" })
	if state.Counters.BusyRunnersDeleted != 1 || state.Counters.StepsLost[emulator.CauseDeleted] != 1 {
		t.Errorf("counted %+v", state.Counters)
	}
}

func TestDisabledRunnerFinishesItsStepAndTakesNoOther(t *testing.T) {
	a, control := start(t, emulator.Options{})
	uuid := a.register("g")
	if err := control.SetRunner(t.Context(), uuid, "online", ""); err != nil {
		t.Fatal(err)
	}
	step := queue(t, control, []string{"g"}, 1, "1s")[0]
	until(t, control, "the step to run", func(s emulator.State) bool { o, _ := outcome(s, step); return o == "running" })
	a.want(http.StatusOK, "PUT", strings.Replace(runners, "2.0", "internal", 1)+"/"+url.PathEscape(uuid)+"/state", `{"status":"DISABLED"}`)
	next := queue(t, control, []string{"g"}, 1, "1s")[0]
	state := until(t, control, "the next to fail", func(s emulator.State) bool { o, _ := outcome(s, next); return o == "failed" })
	if o, _ := outcome(state, step); o != "running" {
		t.Errorf("the disabled runner's step is %s, want running", o)
	}
}

func TestHiddenSteps(t *testing.T) {
	a, control := start(t, emulator.Options{HideStep: true})
	uuid := a.register("g")
	if err := control.SetRunner(t.Context(), uuid, "step", "{s}"); err != nil {
		t.Fatal(err)
	}
	shown := a.want(http.StatusOK, "GET", runners+"/"+url.PathEscape(uuid), "")
	if state, _ := shown["state"].(map[string]any); state["step"] != nil {
		t.Errorf("got %v", state)
	}
}

func TestQueueOfARepository(t *testing.T) {
	a, control := start(t, emulator.Options{})
	uuid := a.register("g")
	if err := control.SetRunner(t.Context(), uuid, "online", ""); err != nil {
		t.Fatal(err)
	}
	queue(t, control, []string{"self.hosted", "g"}, 2, "7s")
	base := "/2.0/repositories/acme/app"
	list := a.want(http.StatusOK, "GET", base+"/pipelines?status=PENDING&status=BUILDING&status=IN_PROGRESS&sort=-created_on&pagelen=100", "")
	p, _ := list["values"].([]any)[0].(map[string]any)
	if list["size"] != 1.0 || list["next"] != nil {
		t.Fatalf("got %v", list)
	}
	steps := a.want(http.StatusOK, "GET", base+"/pipelines/"+url.PathEscape(p["uuid"].(string))+"/steps", "")
	if len(steps["values"].([]any)) != 2 {
		t.Errorf("got %v", steps)
	}
	commit := p["target"].(map[string]any)["commit"].(map[string]any)["hash"].(string)
	if text := a.want(http.StatusOK, "GET", base+"/src/"+commit+"/bitbucket-pipelines.yml", "")["text"].(string); !strings.Contains(text, "runs-on") || !strings.Contains(text, `"g"`) {
		t.Errorf("got %s", text)
	}
	a.want(http.StatusNotFound, "GET", base+"/src/0000/bitbucket-pipelines.yml", "")
}

func TestFaults(t *testing.T) {
	a, control := start(t, emulator.Options{})
	uuid := a.register("g")
	set := func(rules ...emulator.FaultRule) {
		t.Helper()
		if err := control.SetFaults(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	}
	set(emulator.FaultRule{Method: "GET", Path: "/2.0/workspaces/*", Status: 503, Count: 2})
	a.want(503, "GET", runners, "")
	a.want(503, "GET", runners, "")
	a.want(http.StatusOK, "GET", runners, "")

	set(emulator.FaultRule{Path: "*/runners", Status: 429, RetryAfter: 7})
	if status, _, header := a.call("GET", runners, ""); status != 429 || header.Get("Retry-After") != "7" {
		t.Errorf("got %d %v", status, header)
	}
	set(emulator.FaultRule{Path: "*", EmptyList: true})
	if list := a.want(http.StatusOK, "GET", runners, ""); list["size"] != 0.0 {
		t.Errorf("got %v", list)
	}
	set(emulator.FaultRule{Path: "*", Truncate: true})
	if status, _, _ := a.call("GET", runners, ""); status != 0 {
		t.Errorf("a body cut in the middle was read whole")
	}
	set(emulator.FaultRule{Method: "POST", Path: "*", DropAfterWrite: true})
	if status, _, _ := a.call("POST", runners, `{"name":"x","labels":["a"]}`); status != 0 {
		t.Errorf("got an answer")
	}
	set(emulator.FaultRule{Method: "DELETE", Path: "*", ApplyAfter: "300ms"})
	a.want(http.StatusNoContent, "DELETE", runners+"/"+url.PathEscape(uuid), "")
	set()
	state := until(t, control, "the late deletion", func(s emulator.State) bool { return len(s.Runners) == 1 })
	if state.Runners[0].Name != "x" {
		t.Errorf("the POST whose answer was dropped left %v", state.Runners)
	}
	set(emulator.FaultRule{Method: "GET", Path: "*", StaleFor: "1h"})
	if list := a.want(http.StatusOK, "GET", runners, ""); list["size"] != 0.0 {
		t.Errorf("a list of an hour ago: got %v", list)
	}
	for name, rule := range map[string]emulator.FaultRule{
		"latency": {Path: "*", Latency: "soon"}, "path": {Status: 500}, "probability": {Path: "*", Probability: 2}, "status": {Path: "*", Status: 200},
	} {
		if err := control.SetFaults(t.Context(), []emulator.FaultRule{rule}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestStandInRunnerRunsStepsAndSpeaksAsTheRealOne(t *testing.T) {
	a, control := start(t, emulator.Options{AssignLag: 50 * time.Millisecond, OfflineAfter: 300 * time.Millisecond})
	created := a.want(http.StatusOK, "POST", runners, `{"name":"n","labels":["self.hosted","linux","g"]}`)
	client, _ := created["oauth_client"].(map[string]any)
	environment := map[string]string{
		"ACCOUNT_UUID": "{a}", "RUNNER_UUID": created["uuid"].(string), "WORKING_DIRECTORY": "/tmp", "RUNTIME_PREREQUISITES_ENABLED": "true",
		"OAUTH_CLIENT_ID": client["id"].(string), "OAUTH_CLIENT_SECRET": client["secret"].(string), "OAUTH_TOKEN_ENDPOINT": client["token_endpoint"].(string),
	}
	var log bytes.Buffer
	r, err := emulator.NewRunner(func(name string) (string, bool) { v, ok := environment[name]; return v, ok }, &log)
	if err != nil {
		t.Fatal(err)
	}
	r.Startup, r.PollInterval = 0, 20*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	until(t, control, "the runner to come online", func(s emulator.State) bool { return s.Runners[0].Status == "ONLINE" })
	step := queue(t, control, []string{"linux", "g"}, 1, "100ms")[0]
	until(t, control, "the step to pass", func(s emulator.State) bool { o, _ := outcome(s, step); return o == "passed" })
	long := queue(t, control, []string{"linux", "g"}, 1, "1h")[0]
	until(t, control, "the long step to run", func(s emulator.State) bool { o, _ := outcome(s, long); return o == "running" })
	cancel()
	<-ended
	state := until(t, control, "the dead runner's step to be lost", func(s emulator.State) bool { o, _ := outcome(s, long); return o == "failed" })
	if state.Runners[0].Status != "OFFLINE" || state.Counters.StepsLost[emulator.CauseDisconnected] != 1 {
		t.Errorf("got %+v, counted %v", state.Runners[0], state.Counters.StepsLost)
	}
	for _, line := range []string{
		`Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.`,
		"Getting step StepId{accountUuid={11111111-1111-4111-8111-111111111111}, repositoryUuid={22222222-2222-4222-8222-222222222222}, pipelineUuid={",
		"stepUuid=" + step + "}.", "Completing step with result Result{status=PASSED, error=None}.",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %q:\n%s", line, log.String())
		}
	}
}

func TestStandInRunnerNamesWhatItsEnvironmentLacks(t *testing.T) {
	_, err := emulator.NewRunner(func(string) (string, bool) { return "", false }, io.Discard)
	for _, name := range []string{"ACCOUNT_UUID", "RUNNER_UUID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_TOKEN_ENDPOINT"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want it to name %s", err, name)
		}
	}
}

func TestDeletedRunnersProcessEnds(t *testing.T) {
	a, control := start(t, emulator.Options{})
	created := a.want(http.StatusOK, "POST", runners, `{"name":"n","labels":["g"]}`)
	client, _ := created["oauth_client"].(map[string]any)
	environment := map[string]string{
		"ACCOUNT_UUID": "{a}", "RUNNER_UUID": created["uuid"].(string), "WORKING_DIRECTORY": "/tmp", "RUNTIME_PREREQUISITES_ENABLED": "true",
		"OAUTH_CLIENT_ID": client["id"].(string), "OAUTH_CLIENT_SECRET": client["secret"].(string), "OAUTH_TOKEN_ENDPOINT": client["token_endpoint"].(string),
	}
	r, err := emulator.NewRunner(func(name string) (string, bool) { v, ok := environment[name]; return v, ok }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r.Startup, r.PollInterval = 0, 20*time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	until(t, control, "the runner to come online", func(s emulator.State) bool { return s.Runners[0].Status == "ONLINE" })
	a.want(http.StatusNoContent, "DELETE", runners+"/"+url.PathEscape(created["uuid"].(string)), "")
	if err := <-ended; err == nil || ctx.Err() != nil {
		t.Errorf("got %v, want it to end by itself", err)
	}
}

func FuzzRegistrationNeverBreaksTheEmulator(f *testing.F) {
	f.Add(`{"name":"x","labels":["a"]}`)
	f.Add(`{"name":1,"labels":[[]]}`)
	s := emulator.New(emulator.Options{RateLimit: 1 << 30})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, body string) {
		w := &discard{header: http.Header{}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, runners, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer emulator-access-token")
		s.ServeHTTP(w, r)
		if w.status >= 500 {
			t.Fatalf("%q: %d", body, w.status)
		}
	})
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
