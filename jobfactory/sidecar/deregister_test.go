package sidecar

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
)

func TestSIGTERMDeregistersWithinTheBound(t *testing.T) {
	for name, tc := range map[string]struct {
		onDeregister func(ctx context.Context, try int) error
		want         int // tries, at least
	}{
		"the control plane hangs": {func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, 2},
		"the control plane fails": {func(context.Context, int) error { return errors.New("no") }, 2},
		"a failure that goes away": {func(_ context.Context, try int) error {
			if try == 1 {
				return status.Error(codes.Unavailable, "a moment")
			}
			return nil
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := startControlPlane(t), sidecartest.Folder(t)
			c.onDeregister = tc.onDeregister
			s := startSidecar(t, c, dir, func(p *pace) { p.deregister, p.deregisterCall = time.Second, 300*time.Millisecond })
			s.ready(t)
			began := time.Now()
			s.end(t)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %s with a bound of 1s", took)
			}
			if _, _, deregisters := c.counts(); deregisters < tc.want {
				t.Errorf("%d tries, want %d at least", deregisters, tc.want)
			}
		})
	}
	if got := defaultPace().deregister; got != 20*time.Second {
		t.Errorf("the bound is %s by default, want 20s", got)
	}
}

func TestSIGTERMWaitsForAConnectedExec(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	e := sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Forever)
	sidecartest.Eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	s.sigterm()
	sidecartest.Eventually(t, "the teardown is reported", func() bool { return c.last(0) == "STOPPING" })
	if _, _, deregisters := c.counts(); deregisters != 0 {
		t.Error("deregistered before the runner had ended")
	}
	e.Signal(t, syscall.SIGTERM)
	if code := e.ExitCode(t); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want 143", code)
	}
	s.end(t)
	if _, _, deregisters := c.counts(); deregisters != 1 || c.last(0) != "ENDED" {
		t.Errorf("%d deregisters, last state %q, want 1 and ENDED", deregisters, c.last(0))
	}
}

func TestTheControlPlaneLearnsHowTheRunnerEnded(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	sidecartest.StartExec(t, dir, "echo no such file; exit 3").ExitCode(t)
	sidecartest.Eventually(t, "the runner is deregistered", func() bool { _, _, deregisters := c.counts(); return deregisters > 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending.ExitCode == nil || c.ending.GetExitCode() != 3 || c.ending.GetLastLine() != "no such file" {
		t.Errorf("got %v", c.ending)
	}
}
