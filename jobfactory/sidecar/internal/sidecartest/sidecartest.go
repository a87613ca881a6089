// Package sidecartest has what the tests of the sidecar and of the wrapper share:
// processes of the test's own binary, the shared folder, and scripts that stand in
// for Atlassian's runner.
package sidecartest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Role is the environment variable that gives a process of the test's binary
// another role than running the tests. TestMain reads it.
const Role = "SIDECAR_TEST_ROLE"

// Patience bounds each wait of a test.
const Patience = 30 * time.Second

// Pieces of a shell script that acts as the runner.
const (
	Online   = `echo 'Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.'; `
	Step     = `echo 'Getting step StepId{accountUuid={aaaaaaaa-1111-4111-8111-111111111111}, repositoryUuid={bbbbbbbb-1111-4111-8111-111111111111}, pipelineUuid={cccccccc-1111-4111-8111-111111111111}, stepUuid={dddddddd-1111-4111-8111-111111111111}}.'; `
	StepUUID = "{dddddddd-1111-4111-8111-111111111111}"
	// RepositoryUUID and PipelineUUID are those of Step.
	RepositoryUUID = "{bbbbbbbb-1111-4111-8111-111111111111}"
	PipelineUUID   = "{cccccccc-1111-4111-8111-111111111111}"
	Completed      = `echo 'Completing step with result Result{status=PASSED, error=None}.'; `
	// Forever keeps a shell and a child of it running.
	Forever = `sleep 1000 & echo child $!; wait; wait; `
)

// Eventually waits until a condition holds.
func Eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not true: %s", Patience, what)
		}
	}
}

// Folder returns the path of a shared folder, which does not exist yet and is short
// enough for a socket. The file "token" beside it holds a token.
func Folder(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "sc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.WriteFile(filepath.Join(base, "token"), []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "run")
}

// Output is a buffer that may be read while it is written.
type Output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

// String returns what has been written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// Process is a process of the test's binary in another role.
type Process struct {
	*exec.Cmd
	Stdout, Stderr Output
}

// Start starts a process, which ends with the test.
func Start(t *testing.T, role string, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.CommandContext(context.Background(), os.Args[0], args...)} //nolint:gosec // the test's own binary
	p.Env = append(os.Environ(), Role+"="+role)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Stdout, &p.Stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			// Not SIGKILL, after which exec would leave the runner behind.
			_ = p.Process.Signal(syscall.SIGTERM)
			p.ExitCode(t)
		}
		if t.Failed() {
			t.Logf("%s: stdout %q\nstderr %q", role, p.Stdout.String(), p.Stderr.String())
		}
	})
	return p
}

// StartExec runs a shell script as the runner, in a process whose role is "exec".
func StartExec(t *testing.T, dir, script string) *Process {
	t.Helper()
	return Start(t, "exec", dir, "/bin/sh", "-c", script)
}

// Signal sends a signal to the process.
func (p *Process) Signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Crash kills the process and waits for its end.
func (p *Process) Crash() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// ExitCode waits for the process's end.
func (p *Process) ExitCode(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case err := <-done:
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return p.ProcessState.ExitCode()
	case <-time.After(Patience):
		_ = p.Process.Kill()
		t.Fatalf("the process did not end: %v", <-done)
		return 0
	}
}

var childPID = regexp.MustCompile(`child (\d+)`)

// Child waits until the script prints the process ID of its child, and returns it.
func (p *Process) Child(t *testing.T) int {
	t.Helper()
	var found []string
	Eventually(t, "the script names its child", func() bool {
		found = childPID.FindStringSubmatch(p.Stdout.String())
		return found != nil
	})
	pid, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// KillChildren kills the runner that a crashed exec has left behind.
func (p *Process) KillChildren(t *testing.T) {
	t.Helper()
	if group, err := syscall.Getpgid(p.Child(t)); err == nil {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
}

// Gone reports whether a process has ended.
func Gone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || bytes.Contains(status, []byte("State:\tZ"))
}
