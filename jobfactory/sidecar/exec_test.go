package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

var childPID = regexp.MustCompile(`child (\d+)`)

// child is the process that the script under exec named.
func child(t *testing.T, e *program) int {
	t.Helper()
	var found []string
	eventually(t, "the script has named its child", func() bool {
		found = childPID.FindStringSubmatch(e.stdout.String())
		return found != nil
	})
	pid, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// endChildren ends what a killed exec has left behind.
func endChildren(t *testing.T, e *program) {
	t.Helper()
	pid := child(t, e)
	if group, err := syscall.Getpgid(pid); err == nil {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
}

func gone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || bytes.Contains(status, []byte("State:\tZ"))
}

// withSidecar starts a sidecar that has a runner's environment to give.
func withSidecar(t *testing.T) (*controlPlane, *running, string) {
	t.Helper()
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	return c, s, dir
}

func TestExitCodesAreTheRunners(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		want   int
	}{
		"success":           {"exit 0", 0},
		"failure":           {"exit 7", 7},
		"ended by a signal": {"kill -KILL $$", 137},
	} {
		t.Run(name, func(t *testing.T) {
			c, s, dir := withSidecar(t)
			e := startExec(t, dir, tc.script)
			if code := e.wait(t); code != tc.want {
				t.Errorf("exit code %d, want %d", code, tc.want)
			}
			eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
			s.end(t)
			if c.last(0) != "ENDED" {
				t.Errorf("last state %q, want ENDED", c.last(0))
			}
		})
	}
}

func TestACommandThatCannotBeStartedEndsExec(t *testing.T) {
	c, s, dir := withSidecar(t)
	e := startProgram(t, "exec", dir, "/no/such/entrypoint")
	if code := e.wait(t); code == 0 || !strings.Contains(e.stderr.String(), "/no/such/entrypoint") || strings.Contains(e.stderr.String(), secret) {
		t.Errorf("exit code %d and %q, want a failure that names the command and nothing else", code, e.stderr.String())
	}
	s.end(t)
	if _, _, deregisters := c.counts(); deregisters != 1 {
		t.Errorf("%d deregisters, want 1", deregisters)
	}
}

func TestSignalsReachTheWholeProcessGroup(t *testing.T) {
	_, _, dir := withSidecar(t)
	e := startExec(t, dir, `trap 'echo caught; exit 3' TERM; `+forever)
	pid := child(t, e)
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := e.wait(t); code != 3 {
		t.Errorf("exit code %d, want the handler's 3", code)
	}
	if !strings.Contains(e.stdout.String(), "caught") {
		t.Errorf("output %q, want the handler's", e.stdout.String())
	}
	eventually(t, "the runner's child is gone", func() bool { return gone(pid) })
}

func TestStopKillsARunnerThatDoesNotEnd(t *testing.T) {
	c, _, dir := withSidecar(t)
	e := startExec(t, dir, `trap '' TERM; `+online+forever)
	pid := child(t, e)
	eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	c.stop("surplus")
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	eventually(t, "the runner's child is gone", func() bool { return gone(pid) })
}

func TestOrphansAreReaped(t *testing.T) {
	_, _, dir := withSidecar(t)
	// The subshell leaves its child to process 1 and ends.
	e := startExec(t, dir, `(sleep 0.1 & echo child $!); sleep 1000 & wait`)
	pid := child(t, e)
	eventually(t, "the orphan is no zombie but gone", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		return errors.Is(err, fs.ErrNotExist)
	})
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	e.wait(t)
}

func TestOutputPassesThroughByteForByte(t *testing.T) {
	_, _, dir := withSidecar(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	// A line far longer than any bound, then state lines without an end.
	clear(content[1<<20 : 2<<20])
	content = append(content, []byte("\r\n\xff"+`Getting step StepId{stepUuid={`)...)
	file := filepath.Join(dir, "..", "content")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	e := startExec(t, dir, "cat "+file+"; cat "+file+" >&2")
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if e.stdout.String() != string(content) || e.stderr.String() != string(content) {
		t.Errorf("%d and %d bytes differ from the %d written", len(e.stdout.String()), len(e.stderr.String()), len(content))
	}
}

func TestOutputIsNotHeldBack(t *testing.T) {
	_, _, dir := withSidecar(t)
	e := startExec(t, dir, `printf 'no line end'; sleep 1000`)
	eventually(t, "the unfinished line is out", func() bool { return e.stdout.String() == "no line end" })
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	e.wait(t)
}

func TestTheSecretLeavesNoTrace(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startProgram(t, "run", dir, c.address)
	eventually(t, "the sidecar is ready", func() bool { return Ready(t.Context(), dir) == nil })
	e := startExec(t, dir, online+forever)
	pid := child(t, e)
	eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	eventually(t, "the runner has the secret", func() bool { // it is empty while a process begins
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err == nil && bytes.Contains(environ, []byte(secret))
	})
	for name, process := range map[string]*program{"sidecar": s, "exec": e} {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", process.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(environ, []byte(secret)) {
			t.Errorf("the secret is in the environment of %s", name)
		}
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || entry.Name() == BinaryName {
			return err // the test's own binary holds the constant
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.stop("surplus")
	e.wait(t)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("exit code of the sidecar %d, want 0", code)
	}
	for name, process := range map[string]*program{"sidecar": s, "exec": e} {
		if output := process.stdout.String() + process.stderr.String(); strings.Contains(output, secret) {
			t.Errorf("the secret is in the output of %s", name)
		}
	}
}

func TestExecWithoutASidecarGivesUp(t *testing.T) {
	code, err := Exec(t.Context(), ExecConfig{Dir: folder(t), Command: []string{"true"}, ConnectTimeout: 50 * time.Millisecond, Stdout: os.Stdout, Stderr: os.Stderr})
	if code == 0 || err == nil {
		t.Errorf("exit code %d and error %v, want a failure", code, err)
	}
}

func TestAClientThatWentAwayGetsNoEnvironment(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	permitted := make(chan struct{})
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) { <-permitted; return aRunner(), nil }
	s := startSidecar(t, c, dir, nil)
	var impatient *wire
	eventually(t, "the socket is there", func() (ok bool) {
		var err error
		impatient, err = dialWire(t.Context(), dir)
		return err == nil
	})
	if err := impatient.send(message{Type: typeFetch}); err != nil {
		t.Fatal(err)
	}
	impatient.close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	type got struct {
		w      *wire
		answer message
		err    error
	}
	fetched := make(chan got, 1)
	go func() {
		w, answer, err := fetch(ctx, ExecConfig{Dir: dir, ConnectTimeout: patience})
		fetched <- got{w, answer, err}
	}()
	close(permitted)
	patient := <-fetched
	if patient.err != nil {
		t.Fatal(patient.err)
	}
	defer patient.w.close()
	if patient.answer.Type != typeEnvironment {
		t.Errorf("answer %q to the client that stayed, want the environment", patient.answer.Type)
	}
	patient.w.close()
	s.end(t)
}
