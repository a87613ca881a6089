package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// program is the binary under test.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bitbucket-emulator")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "bitbucket-emulator")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// start starts the binary. The scanner returns the lines of its output.
func start(t *testing.T, env []string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, program, args...)
	command.Env, command.Stderr = env, os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, bufio.NewScanner(out)
}

func await(t *testing.T, lines *bufio.Scanner, text string) string {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return lines.Text()
		}
	}
	t.Fatalf("output ended without %q", text)
	return ""
}

// end sends SIGTERM and returns the exit code.
func end(t *testing.T, command *exec.Cmd) int {
	t.Helper()
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode()
}

func TestRunnerProcessRunsAStepAndEndsAtSIGTERM(t *testing.T) {
	serve, out := start(t, []string{"EMULATOR_LISTEN=127.0.0.1:0"}, "serve", "--assign-lag", "0s", "--offline-after", "1s")
	_, address, _ := strings.Cut(await(t, out, "listens on"), "listens on ")
	runner, lines := start(t, register(t, address), "runner", "--startup=0s", "--poll=20ms", "--heartbeat=100ms")
	await(t, lines, `Updating runner status to "ONLINE"`)

	control := emulator.NewControl(address)
	request := emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux"}, Duration: "50ms"}
	if _, err := control.QueueSteps(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	await(t, lines, "Getting step StepId{accountUuid={11111111-")
	await(t, lines, "Completing step with result Result{status=PASSED, error=None}.")
	request.Duration = "1h"
	if _, err := control.QueueSteps(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	await(t, lines, "Getting step")
	if code := end(t, runner); code != 143 {
		t.Errorf("runner: exit code %d, want 143", code)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		state, err := control.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(state.Steps) == 2 && state.Steps[0].Outcome == "passed" && state.Steps[1].Cause == emulator.CauseDisconnected {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("steps %+v, want one passed and one lost", state.Steps)
		}
		<-time.After(20 * time.Millisecond)
	}
	if code := end(t, serve); code != 0 {
		t.Errorf("serve: exit code %d, want 0", code)
	}
}

// register registers a runner and returns its process's environment.
func register(t *testing.T, address string) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/2.0/workspaces/acme/pipelines-config/runners",
		strings.NewReader(`{"name":"r","labels":["self.hosted","linux"]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(emulator.Email, emulator.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var made struct {
		UUID        string
		OAuthClient map[string]string `json:"oauth_client"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil {
		t.Fatal(err)
	}
	return []string{
		"ACCOUNT_UUID=" + emulator.WorkspaceUUID, "RUNNER_UUID=" + made.UUID, "OAUTH_CLIENT_ID=" + made.OAuthClient["id"],
		"OAUTH_CLIENT_SECRET=" + made.OAuthClient["secret"], "OAUTH_TOKEN_ENDPOINT=" + made.OAuthClient["token_endpoint"],
		"WORKING_DIRECTORY=/tmp", "RUNTIME_PREREQUISITES_ENABLED=true",
	}
}

func TestEveryBadValueIsReportedAtOnce(t *testing.T) {
	t.Setenv("EMULATOR_TOKEN_LIFETIME", "long")
	for command, c := range map[string]struct{ args, want []string }{
		"serve": {
			[]string{"--listen", "nowhere", "--public-url", "here", "--assign-lag", "-1s", "--offline-after", "0", "--rate-limit", "many", "--keep-steps", "0", "--step-stages", "some", "--parse-lag", "-1s", "--workspaces", "0", "surplus"},
			[]string{`listen: "nowhere"`, `public URL: "here"`, `assign-lag: "-1s"`, `offline-after: "0"`, `rate-limit: "many"`, `keep-steps: "0"`, `step-stages: "some"`, `parse-lag: "-1s"`, `workspaces: "0"`, `token-lifetime: "long"`, `"surplus"`},
		},
		"runner": {
			[]string{"--startup", "soon", "--heartbeat", "0s", "--poll", "-1s", "surplus"},
			[]string{`startup: "soon"`, `heartbeat: "0s"`, `poll: "-1s"`, "RUNNER_UUID: missing", `"surplus"`},
		},
	} {
		var out, complaint strings.Builder
		if code := run(t.Context(), append([]string{command}, c.args...), os.LookupEnv, &out, &complaint); code != 2 || out.Len() > 0 {
			t.Errorf("%s: exit code %d and output %q, want 2 and none", command, code, &out)
		}
		for _, want := range c.want {
			if !strings.Contains(complaint.String(), want) {
				t.Errorf("%s: does not contain %s:\n%s", command, want, &complaint)
			}
		}
	}
}

// TestFlagsSwitchWhatIsUncertain passes every flag whose default is what is hardest on a
// client, and sees each of them at work.
func TestFlagsSwitchWhatIsUncertain(t *testing.T) {
	serve, out := start(t, []string{"EMULATOR_LISTEN=127.0.0.1:0", "EMULATOR_ADD_LABELS=true"}, "serve",
		"--rename-on-put", "--wait-offline", "--step-stages=reached", "--parse-lag=0s", "--webhooks-anywhere", "--repositories=api,lib", "--workspaces=12")
	_, address, _ := strings.Cut(await(t, out, "listens on"), "listens on ")
	call := func(want int, method, path, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %d %s, %v, want %d", method, path, resp.StatusCode, answer, err, want)
		}
		return string(answer)
	}
	const runners = "/2.0/workspaces/acme/pipelines-config/runners"
	var made struct{ UUID string }
	if err := json.Unmarshal([]byte(call(200, "POST", runners, `{"name":"r","labels":["my.group"]}`)), &made); err != nil {
		t.Fatal(err)
	}
	if got := call(200, "PUT", runners+"/"+made.UUID, `{"name":"new"}`); !strings.Contains(got, `"name":"new"`) {
		t.Errorf("renamed to %s", got)
	}
	control := emulator.NewControl(address)
	file := "pipelines: {default: [step: {runs-on: [my.group], script: [x]}]}"
	if _, err := control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: "app", File: file}); err != nil {
		t.Fatal(err)
	}
	if got := call(200, "GET", "/2.0/repositories/acme/app/pipelines/1/steps", ""); !strings.Contains(got, `"stage":{"type":"pipeline_step_state_pending_pending"`) {
		t.Errorf("the step does not wait: %s", got)
	}
	call(200, "GET", "/2.0/repositories/acme/lib/pipelines", "")
	call(200, "GET", "/2.0/repositories/acme-12/lib/pipelines", "")
	call(404, "GET", "/2.0/repositories/acme-13/lib/pipelines", "")
	if err := control.AddWebhook(t.Context(), emulator.WebhookRequest{URL: address}); err != nil {
		t.Error(err)
	}
	if code := end(t, serve); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestWrongCommandLinesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no command":       {nil, "want completion, runner, serve or version"},
		"another command":  {[]string{"server"}, `unknown command "server", did you mean serve?`},
		"an argument":      {[]string{"serve", "now"}, "arguments"},
		"help of nothing":  {[]string{"help", "nothing"}, `unknown command "nothing"`},
		"a flag misspelt":  {[]string{"serve", "--assign-lagg", "1s"}, "did you mean --assign-lag?"},
		"public URL":       {[]string{"serve", "--public-url", "here"}, `public URL: "here"`},
		"rate limit":       {[]string{"serve", "--rate-limit", "0"}, "rate-limit: 0"},
		"address":          {[]string{"serve", "--listen", "nowhere"}, "listen"},
		"no environment":   {[]string{"runner"}, "RUNNER_UUID: missing"},
		"runner heartbeat": {[]string{"runner", "--heartbeat", "0s"}, `heartbeat: "0s"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, complaint strings.Builder
			code := run(t.Context(), c.args, func(string) (string, bool) { return "", false }, &out, &complaint)
			if code != 2 || !strings.Contains(complaint.String(), c.want) {
				t.Errorf("exit code %d, error %s, want 2 and %q", code, &complaint, c.want)
			}
		})
	}
}

func TestHelpAndVersionArePrinted(t *testing.T) {
	for args, want := range map[string]string{
		"version": version + "\n", "--version": version + "\n", "help": "Available Commands:", "--help": "Available Commands:",
		"serve -h": "--assign-lag duration", "help runner": "Examples:\n  ACCOUNT_UUID=",
	} {
		var out, complaint strings.Builder
		if code := run(t.Context(), strings.Fields(args), os.LookupEnv, &out, &complaint); code != 0 || complaint.Len() > 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d, error %q, output %q, want 0 and %q", args, code, &complaint, &out, want)
		}
	}
}
