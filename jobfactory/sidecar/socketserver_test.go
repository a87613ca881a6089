package sidecar

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

func TestALostConnectionToExecIsNotTheRunnersEnd(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Forever)
	sidecartest.Eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	e.Crash()
	e.KillChildren(t)
	sidecartest.Eventually(t, "the state is unknown", func() bool { return c.last(0) == "UNKNOWN" })
	if _, _, deregisters := c.counts(); deregisters != 0 {
		t.Error("deregistered although the runner may be running")
	}
	s.end(t)
	if _, _, deregisters := c.counts(); deregisters != 1 || c.last(0) != "ENDED" {
		t.Errorf("%d deregisters, last state %q, want 1 and ENDED: SIGTERM comes after the main container", deregisters, c.last(0))
	}
}

// An environment that is sent to a client that has gone would be lost.
func TestAClientThatWentAwayGetsNoEnvironment(t *testing.T) {
	state := newState(t.TempDir())
	server := &socketServer{state: state, log: zap.NewNop()}
	conn, client := net.Pipe()
	go func() {
		_, _ = client.Write([]byte(`{"type":"fetch"}` + "\n"))
		_ = client.Close()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), sidecartest.Patience)
	defer cancel()
	server.answer(ctx, socket.NewConn(conn))
	if ctx.Err() != nil {
		t.Fatal("the server waits for a client that has gone")
	}
	state.register(aRunner().GetRunner())
	if answer, err := state.handOut(); err != nil || answer.Type != socket.TypeEnvironment {
		t.Errorf("answer %q and error %v for the next client, want the environment", answer.Type, err)
	}
}

func TestTheSecretLeavesNoTrace(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := sidecartest.Start(t, "run", dir, c.address)
	sidecartest.Eventually(t, "the sidecar is ready", func() bool { return Ready(t.Context(), dir, 0) == nil })
	e := sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Forever)
	pid := e.Child(t)
	sidecartest.Eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	sidecartest.Eventually(t, "the runner has the secret", func() bool { // the file is empty while a process starts
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err == nil && bytes.Contains(environ, []byte(secret))
	})
	for name, process := range map[string]*sidecartest.Process{"sidecar": s, "exec": e} {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", process.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(environ, []byte(secret)) {
			t.Errorf("the secret is in the environment of %s", name)
		}
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || entry.Name() == binaryName {
			return err // the test's own binary contains the constant
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
	e.ExitCode(t)
	s.Signal(t, syscall.SIGTERM)
	if code := s.ExitCode(t); code != 0 {
		t.Errorf("exit code of the sidecar %d, want 0", code)
	}
	for name, process := range map[string]*sidecartest.Process{"sidecar": s, "exec": e} {
		if output := process.Stdout.String() + process.Stderr.String(); strings.Contains(output, secret) {
			t.Errorf("the secret is in the output of %s", name)
		}
	}
}
