package sidecar

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

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
