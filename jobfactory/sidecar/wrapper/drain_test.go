package wrapper

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
)

func TestDrainReturnsOnceTheRunnerHasEnded(t *testing.T) {
	s := serveEnvironment(t)
	done := make(chan error, 1)
	go func() { done <- Drain(t.Context(), s.dir, zap.NewNop()) }()
	s.waitFor(t, "drain")
	select {
	case err := <-done:
		t.Fatalf("drained before the runner's end: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(s.ended)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDrainFailsWithoutASidecar(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Drain(ctx, sidecartest.Folder(t), zap.NewNop()); !errors.Is(err, ErrNotDrained) {
		t.Errorf("got %v, want %v", err, ErrNotDrained)
	}
}
