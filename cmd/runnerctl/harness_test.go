package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// role makes the test's binary runnerctl: for signals, and for children of its own.
const role = "RUNNERCTL_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) != "" {
		_ = os.Unsetenv(role)
		os.Args[0] = "runnerctl"
		main()
		return
	}
	os.Exit(m.Run())
}

var emulatorSecrets = []string{
	emulator.OAuthClientSecret, emulator.APIToken, emulator.AppPassword, emulator.AccessToken, emulator.ReadOnlyToken,
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// printed is all that the command printed.
func (r result) printed() string { return r.stdout + r.stderr }

// runs runs a command with an environment of its own.
func runs(t *testing.T, environment map[string]string, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, func(name string) (string, bool) { v, ok := environment[name]; return v, ok }, strings.NewReader(stdin), &stdout, &stderr)
	return result{stdout: stdout.String(), stderr: stderr.String(), code: code}
}

// runCheck runs a check against an emulator, with an environment of its own, and
// wants no secret in what it prints.
func runCheck(t *testing.T, url string, environment map[string]string, args ...string) result {
	t.Helper()
	args = append([]string{"check"}, args...)
	if url != "" {
		args = append(args, "--bitbucket-url", url, "--bitbucket-oauth-url", url+"/site/oauth2/access_token")
	}
	r := runs(t, environment, "", args...)
	for _, secret := range emulatorSecrets {
		if strings.Contains(r.printed(), secret) {
			t.Errorf("a secret is shown: %+v", r)
		}
	}
	return r
}

// writeSet makes a set's folder.
func writeSet(t *testing.T, dir, name string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// everySet makes sets of every kind that the emulator accepts.
func everySet(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	writeSet(t, dir, "consumer", map[string]string{"bitbucketOauthClientId": emulator.OAuthClientID, "bitbucketOauthClientSecret": emulator.OAuthClientSecret, "namespaces": "team-a\nteam-b"})
	writeSet(t, dir, "api-token", map[string]string{"atlassianAccountEmail": emulator.Email, "atlassianApiToken": emulator.APIToken, "namespaces": "*"})
	writeSet(t, dir, "app-password", map[string]string{"bitbucketUsername": emulator.Username, "bitbucketAppPassword": emulator.AppPassword, "namespaces": "*"})
	writeSet(t, dir, "access-token", map[string]string{"bitbucketAccessToken": emulator.AccessToken, "namespaces": "*"})
	return dir
}

// start starts runnerctl as a process; its output is whole once it has ended.
func start(t *testing.T, environment []string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	command.Env = append(append(os.Environ(), role+"=runnerctl"), environment...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, &stdout, &stderr
}

func called(server *emulator.Server, method string) bool {
	for call := range server.State().Counters.Calls {
		if strings.HasPrefix(call, method+" ") {
			return true
		}
	}
	return false
}

// waitFor waits for a condition, which another process brings about.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	look, late := time.NewTicker(5*time.Millisecond), time.After(time.Minute)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-late:
			t.Fatal("the condition did not hold within a minute")
		}
	}
}
