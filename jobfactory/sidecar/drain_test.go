package sidecar

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// drained starts the preStop hook, whose error comes over the channel.
func drained(t *testing.T, dir string) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Drain(ctx, dir, testLogger()) }()
	t.Cleanup(cancel)
	return done
}

func (c *controlPlane) toldOfTheEnd() bool {
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

// A runner that was idle for long before its pod was deleted is not disabled yet,
// so it may be given a step: its idleness before counts for nothing.
func TestALongIdleRunnerStillWaitsForTheControlPlane(t *testing.T) {
	const unanswered = 4 * time.Second
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, func(p *pace) { p.unanswered = unanswered })
	s.ready(t)
	e := startExec(t, dir, online+forever)
	eventually(t, "the runner was idle for long", func() bool {
		last, lasted := s.ledger.reports.lasting()
		return last.state == runnerv1.RunnerState_RUNNER_STATE_IDLE && lasted > unanswered
	})
	began := time.Now()
	done := drained(t, dir)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < unanswered {
		t.Errorf("the runner was ended %s after the pod's deletion, want no sooner than %s without an answer", took, unanswered)
	}
	if !c.toldOfTheEnd() {
		t.Error("the control plane was not told")
	}
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestADrainWaitsForTheStep(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, func(p *pace) { p.unanswered = time.Millisecond })
	s.ready(t)
	release := filepath.Join(dir, "..", "release")
	e := startExec(t, dir, online+step+`while [ ! -e `+release+` ]; do sleep 0.05; done; `+passed+forever)
	eventually(t, "the step runs", func() bool { return c.last(0) == "BUSY "+stepID })
	done := drained(t, dir)
	eventually(t, "the control plane is told", c.toldOfTheEnd)
	select {
	case err := <-done:
		t.Fatalf("drained while the step ran: %v", err)
	case <-time.After(300 * time.Millisecond): // many times the pace of an end without an answer
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// The end of process 1 would kill the hook, which runs in the same container.
func TestProcessOneOutlivesTheHook(t *testing.T) {
	c, _, dir := withSidecar(t)
	e := startExec(t, dir, online+forever)
	eventually(t, "the runner is online", func() bool { return c.last(0) == "IDLE" })
	done := drained(t, dir)
	eventually(t, "the control plane is told", c.toldOfTheEnd)
	c.stop("the pod ends")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-time.After(signalWait / 10) // in which a process that does not wait would end
	if gone(e.cmd.Process.Pid) {
		t.Error("process 1 ended with its runner, before the kubelet's signal")
	}
	began := time.Now()
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(began); took > signalWait*8/10 {
		t.Errorf("process 1 ended %s after the kubelet's signal, want at once", took)
	}
}

func TestADrainOutlivesTheSidecar(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	first := startProgram(t, "run", dir, c.address)
	eventually(t, "the first sidecar is ready", func() bool { return Ready(t.Context(), dir) == nil })
	release := filepath.Join(dir, "..", "release")
	e := startExec(t, dir, online+step+`while [ ! -e `+release+` ]; do sleep 0.05; done; `+passed+forever)
	eventually(t, "the step runs", func() bool { return c.last(0) == "BUSY "+stepID })
	done := drained(t, dir)
	eventually(t, "the control plane is told", c.toldOfTheEnd)
	_ = first.cmd.Process.Kill() // as for want of memory
	_ = first.cmd.Wait()
	startSidecar(t, c, dir, nil)
	eventually(t, "all is told anew", func() bool {
		said := c.latest()
		return said.GetTerminating() && said.GetStepUuid() == stepID && said.GetStepsBegun() == 1
	})
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the step's end is told", func() bool { return c.latest().GetState() == runnerv1.RunnerState_RUNNER_STATE_IDLE })
	c.stop("the pod ends")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code := e.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A pod that is being deleted gets no new token: with a long step, the control plane
// refuses the old one when the connection breaks.
func TestADrainOutlivesTheToken(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	s := startSidecar(t, c, dir, func(p *pace) { p.unanswered = 300 * time.Millisecond })
	s.ready(t)
	release := filepath.Join(dir, "..", "release")
	e := startExec(t, dir, online+step+`while [ ! -e `+release+` ]; do sleep 0.05; done; `+passed+forever)
	eventually(t, "the step runs", func() bool { return c.last(0) == "BUSY "+stepID })
	expired := status.Error(codes.Unauthenticated, "the token has expired")
	c.refused.Store(&expired)
	c.onDeregister = func(context.Context, int) error { return expired }
	c.restart(t)
	done := drained(t, dir)
	eventually(t, "the hook is served", func() bool { now, _ := s.ledger.look(); return now.terminating })
	select {
	case err := <-done:
		t.Fatalf("drained while the step ran: %v", err)
	case <-time.After(2 * s.pace.unanswered):
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code := e.wait(t); code != 0 || !strings.Contains(e.stdout.String(), "Completing step") {
		t.Errorf("exit code %d and output %q, want 0 and the step's end", code, e.stdout.String())
	}
}

func TestAPodThatEndsWhileItRegistersStartsNoRunner(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	permitted := make(chan struct{})
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) { <-permitted; return aRunner(), nil }
	startSidecar(t, c, dir, nil)
	e := startExec(t, dir, "echo started")
	if err := <-drained(t, dir); err != nil {
		t.Fatal(err)
	}
	close(permitted)
	if code := e.wait(t); code != 0 || e.stdout.String() != "" {
		t.Errorf("exit code %d and output %q, want 0 and none", code, e.stdout.String())
	}
	eventually(t, "the runner is deregistered", func() bool { _, _, n := c.counts(); return n == 1 })
}

func TestLinesOfAnUnknownFormatAreTold(t *testing.T) {
	c, dir := startControlPlane(t), folder(t)
	startSidecar(t, c, dir, nil).ready(t)
	e := startExec(t, dir, online+passed+forever) // of the beginning of a step they told nothing
	eventually(t, "it is told", func() bool {
		said := c.latest()
		return said.GetState() == runnerv1.RunnerState_RUNNER_STATE_UNKNOWN && said.GetUnrecognizedOutput()
	})
	c.stop("the pod ends")
	e.wait(t)
}
