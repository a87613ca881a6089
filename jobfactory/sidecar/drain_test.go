package sidecar

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/wrapper"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// startDrain starts the preStop hook and returns a channel for its error.
func startDrain(t *testing.T, dir string) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- wrapper.Drain(ctx, dir, testLogger()) }()
	t.Cleanup(cancel)
	return done
}

// stillDrains fails if the hook returns within the given time.
func stillDrains(t *testing.T, done <-chan error, wait time.Duration) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("drained while the step ran: %v", err)
	case <-time.After(wait):
	}
}

// startStep starts a runner with a step that runs until finish is called.
func startStep(t *testing.T, c *controlPlane, dir string) (e *sidecartest.Process, finish func()) {
	t.Helper()
	release := filepath.Join(dir, "..", "release")
	e = sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Step+`while [ ! -e `+release+` ]; do sleep 0.05; done; `+sidecartest.Completed+sidecartest.Forever)
	sidecartest.Eventually(t, "the step runs", func() bool { return c.last(0) == "BUSY "+sidecartest.StepUUID })
	return e, func() {
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *controlPlane) terminating() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, stream := range c.streams {
		for _, request := range stream {
			if request.GetTerminating() {
				return true
			}
		}
	}
	return false
}

// A runner that was idle before its pod was deleted is not disabled yet, so it may
// still get a step.
func TestIdlenessBeforeTheDeletionDoesNotCount(t *testing.T) {
	const unanswered = 4 * time.Second
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, func(p *pace) { p.unanswered = unanswered })
	s.ready(t)
	e := sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Forever)
	sidecartest.Eventually(t, "the runner has been idle long", func() bool {
		last, lasted := s.state.reports.Age()
		return last.State == runnerv1.RunnerState_RUNNER_STATE_IDLE && lasted > unanswered
	})
	began := time.Now()
	done := startDrain(t, dir)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < unanswered {
		t.Errorf("the runner was ended %s after the pod's deletion, want no sooner than %s without an answer", took, unanswered)
	}
	if !c.terminating() {
		t.Error("the deletion was not reported")
	}
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestADrainWaitsForTheStep(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, func(p *pace) { p.unanswered = time.Millisecond })
	s.ready(t)
	e, finishStep := startStep(t, c, dir)
	done := startDrain(t, dir)
	sidecartest.Eventually(t, "the deletion is reported", c.terminating)
	stillDrains(t, done, 300*time.Millisecond)
	finishStep()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestADrainOutlivesTheSidecar(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	first := sidecartest.Start(t, "run", dir, c.address)
	sidecartest.Eventually(t, "the first sidecar is ready", func() bool { return Ready(t.Context(), dir, 0) == nil })
	e, finishStep := startStep(t, c, dir)
	done := startDrain(t, dir)
	sidecartest.Eventually(t, "the deletion is reported", c.terminating)
	first.Crash()
	startSidecar(t, c, dir, nil)
	sidecartest.Eventually(t, "everything is reported again", func() bool {
		said := c.latest()
		return said.GetTerminating() && said.GetStepUuid() == sidecartest.StepUUID && said.GetStepsBegun() == 1
	})
	finishStep()
	sidecartest.Eventually(t, "the step's end is reported", func() bool { return c.latest().GetState() == runnerv1.RunnerState_RUNNER_STATE_IDLE })
	c.stop("the pod ends")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A pod that is being deleted gets no new token. If the connection breaks during a
// long step, the control plane refuses the old token.
func TestADrainOutlivesTheToken(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, func(p *pace) { p.unanswered, p.deregister = 300*time.Millisecond, time.Second })
	s.ready(t)
	e, finishStep := startStep(t, c, dir)
	expired := status.Error(codes.Unauthenticated, "the token has expired")
	c.refused.Store(&expired)
	c.onDeregister = func(context.Context, int) error { return expired }
	c.restart(t)
	done := startDrain(t, dir)
	sidecartest.Eventually(t, "the hook is served", func() bool { return s.state.get().terminating })
	stillDrains(t, done, 2*s.pace.unanswered)
	finishStep()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code := e.ExitCode(t); code != 0 || !strings.Contains(e.Stdout.String(), "Completing step") {
		t.Errorf("exit code %d and output %q, want 0 and the step's end", code, e.Stdout.String())
	}
}

func TestAPodDeletedWhileItRegistersStartsNoRunner(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	permitted := make(chan struct{})
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) { <-permitted; return aRunner(), nil }
	startSidecar(t, c, dir, nil)
	e := sidecartest.StartExec(t, dir, "echo started")
	if err := <-startDrain(t, dir); err != nil {
		t.Fatal(err)
	}
	close(permitted)
	if code := e.ExitCode(t); code != 0 || e.Stdout.String() != "" {
		t.Errorf("exit code %d and output %q, want 0 and none", code, e.Stdout.String())
	}
	sidecartest.Eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
}
