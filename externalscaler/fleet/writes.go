package fleet

import (
	"context"
	"errors"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// write is a runner changed by us since the last list that can show it.
type write struct {
	runner  bitbucket.Runner
	deleted bool
	at      time.Time
}

// look is a runner as a read of it alone showed it.
type look struct {
	runner bitbucket.Runner
	begun  time.Time
}

func (s *Scope) record(w write) {
	w.at = s.config.Clock.Now()
	s.mu.Lock()
	// A UUID is never used again, so a write that ran beside the deletion, and
	// ended after it, does not bring the runner back.
	if !s.writes[w.runner.UUID].deleted {
		s.writes[w.runner.UUID] = w
	}
	s.mu.Unlock()
	s.notify()
}

// Create registers a runner; for the registrar alone.
func (s *Scope) Create(ctx context.Context, runner bitbucket.NewRunner) (bitbucket.Runner, error) {
	ctx, cancel, err := s.writable(ctx)
	if err != nil {
		return bitbucket.Runner{}, err
	}
	defer cancel()
	created, err := s.using().CreateRunner(ctx, s.Resolved(), runner)
	if err != nil {
		if errors.Is(err, bitbucket.ErrOutcomeUnknown) {
			s.Hint()
		}
		return bitbucket.Runner{}, err
	}
	known := created
	known.OAuthClient = nil // the secret is the caller's alone
	s.record(write{runner: known})
	return created, nil
}

// Disable lets a runner take no new step.
func (s *Scope) Disable(ctx context.Context, runner bitbucket.Runner) error {
	ctx, cancel, err := s.writable(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := s.using().DisableRunner(ctx, s.Resolved(), runner.UUID); err != nil {
		return err
	}
	runner.State.Status = bitbucket.StatusDisabled
	s.record(write{runner: runner})
	return nil
}

// Delete removes a runner; one that is gone already counts as removed.
func (s *Scope) Delete(ctx context.Context, runner bitbucket.Runner) error {
	ctx, cancel, err := s.writable(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := s.using().DeleteRunner(ctx, s.Resolved(), runner.UUID); err != nil {
		return err
	}
	s.record(write{runner: runner, deleted: true})
	return nil
}

// Get reads one runner live. What it shows stands beside the list's from then on:
// see Listed.
func (s *Scope) Get(ctx context.Context, uuid string) (bitbucket.Runner, error) {
	begun := s.config.Clock.Now()
	runner, _, err := s.using().GetRunner(ctx, s.Resolved(), uuid)
	if err != nil {
		return bitbucket.Runner{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks[uuid] = look{runner: runner, begun: begun}
	s.stepSeen = s.stepSeen || runner.State.Step != nil
	return runner, nil
}
