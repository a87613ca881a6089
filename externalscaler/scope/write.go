package scope

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/leader"
)

// ErrNotWritable says that this process may not write in the scope, or not yet.
var ErrNotWritable = errors.New("not the leader, or not long enough to write")

// write is a runner changed by us since the last list that can show it.
type write struct {
	runner  bitbucket.Runner
	deleted bool
	at      time.Time
	// contradicted counts the lists that show a deleted runner although they must have
	// lacked it.
	contradicted int
}

// recheck is a runner as a read of it alone showed it.
type recheck struct {
	runner bitbucket.Runner
	begun  time.Time
}

// writable reports why no write may be tried now: ErrNotWritable, or nil.
func (s *scope) writable() error {
	s.mu.Lock()
	lost := s.config.Store != nil && !s.stored
	var listBegun time.Time
	if s.list != nil {
		listBegun = s.list.Begun
	}
	s.mu.Unlock()
	if lost {
		return fmt.Errorf("scope %s would not be found again after a restart: %w", s.id, ErrNotWritable)
	}
	term, leads := s.config.Leadership.Term()
	if !leads || term.Ended(s.config.Clock.Now()) || !term.From.IsZero() && !listBegun.After(term.From) {
		return fmt.Errorf("scope %s: %w", s.id, ErrNotWritable)
	}
	return nil
}

// bound returns the context for one write, or why it may not be tried.
func (s *scope) bound(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("write in scope %s: %w", s.id, err)
	}
	if err := s.writable(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := leader.BoundWrite(ctx, s.config.Leadership, s.config.Clock)
	return ctx, cancel, nil
}

func (s *scope) record(w write) {
	w.at = s.config.Clock.Now()
	s.mu.Lock()
	// A UUID is never used again, so a write that ran beside the deletion, and
	// ended after it, does not bring the runner back.
	if !s.writes[w.runner.UUID].deleted {
		s.writes[w.runner.UUID], s.view = w, nil
	}
	s.mu.Unlock()
	s.changed()
}

// create registers a runner; the caller has reserved a slot for it.
func (s *scope) create(ctx context.Context, runner bitbucket.NewRunner) (bitbucket.Runner, error) {
	ctx, cancel, err := s.bound(ctx)
	if err != nil {
		return bitbucket.Runner{}, err
	}
	defer cancel()
	created, err := s.using().CreateRunner(ctx, s.resolvedScope(), runner)
	if err != nil {
		if errors.Is(err, bitbucket.ErrOutcomeUnknown) {
			s.refresh()
		}
		return bitbucket.Runner{}, err
	}
	known := created
	known.OAuthClient = nil // the secret is the caller's alone
	s.record(write{runner: known})
	return created, nil
}

// disable lets a runner take no new step.
func (s *scope) disable(ctx context.Context, runner bitbucket.Runner) error {
	ctx, cancel, err := s.bound(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := s.using().DisableRunner(ctx, s.resolvedScope(), runner.UUID); err != nil {
		return err
	}
	runner.State.Status = bitbucket.StatusDisabled
	s.record(write{runner: runner})
	return nil
}

// delete removes a runner; one that is gone already counts as removed.
func (s *scope) delete(ctx context.Context, runner bitbucket.Runner) error {
	ctx, cancel, err := s.bound(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := s.using().DeleteRunner(ctx, s.resolvedScope(), runner.UUID); err != nil {
		return err
	}
	s.record(write{runner: runner, deleted: true})
	return nil
}

// recheck reads one runner live. What it shows replaces what the list shows of the
// runner, until a later list.
func (s *scope) recheck(ctx context.Context, uuid string) (bitbucket.Runner, error) {
	begun := s.config.Clock.Now()
	runner, _, err := s.using().GetRunner(ctx, s.resolvedScope(), uuid)
	if err != nil {
		return bitbucket.Runner{}, err
	}
	s.mu.Lock()
	s.rechecks[uuid], s.view = recheck{runner: runner, begun: begun}, nil
	s.stepSeen = s.stepSeen || runner.State.Step != nil
	s.mu.Unlock()
	s.changed()
	return runner, nil
}
