package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
)

// errAlias says that another Scope stands for the same UUIDs.
var errAlias = errors.New("the scope is known by another spelling")

// run polls until ctx ends: one list an interval, jittered by a tenth so that
// many scopes do not call in step, and sooner when somebody asks, but never
// sooner than the floor: whoever asks in a loop must not eat the hourly budget.
func (s *Scope) run(ctx context.Context) {
	for {
		begun := s.config.Clock.Now()
		err := s.poll(ctx)
		if errors.Is(err, errAlias) {
			return
		}
		if !s.sleep(ctx, s.config.floor(), nil) {
			return
		}
		rest := s.interval(err) - s.config.Clock.Since(begun)
		if !s.sleep(ctx, rest, s.wake) {
			return
		}
	}
}

// sleep waits; false if ctx ended. It is cut short by wake.
func (s *Scope) sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := s.config.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
	case <-wake:
	}
	return true
}

// interval is the time from the begin of the last list to the next.
func (s *Scope) interval(err error) time.Duration {
	interval := s.config.PollInterval
	s.mu.Lock()
	if s.suspect != nil || s.list == nil {
		interval = min(interval, s.config.RetryInterval)
	}
	s.mu.Unlock()
	interval -= time.Duration(rand.Int64N(int64(interval)/10 + 1)) //nolint:gosec // jitter, not a secret
	var limited *bitbucket.RateLimitedError
	if errors.As(err, &limited) {
		interval = max(interval, limited.RetryAfter)
	}
	return interval
}

// poll reads one list and lets go of whoever waited for it. The error is the
// list's; what is to be said of it has been said.
func (s *Scope) poll(ctx context.Context) error {
	select {
	case <-s.wake: // whoever asked before now is served by this list
	default:
	}
	s.mu.Lock()
	waiters := s.waiters
	s.waiters = nil
	resolved := s.resolved
	s.mu.Unlock()
	defer func() {
		for _, waiter := range waiters {
			close(waiter)
		}
	}()

	ctx, cancel := context.WithTimeout(ctx, s.config.ListTimeout)
	defer cancel()
	if resolved.Workspace == "" {
		var err error
		if resolved, err = s.using().ResolveScope(ctx, s.Written); err != nil {
			return s.failed(ctx, fmt.Errorf("resolve scope %s: %w", s.Written, err))
		}
		if !s.claim(resolved) {
			return errAlias
		}
		s.mu.Lock()
		s.resolved = resolved
		s.mu.Unlock()
	}
	list, err := s.using().ListRunners(ctx, resolved)
	if err != nil {
		return s.failed(ctx, fmt.Errorf("list runners of %s: %w", s.Written, err))
	}
	s.accept(ctx, list)
	return nil
}

// failed keeps the error and says so where it is a new one.
func (s *Scope) failed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	s.mu.Lock()
	first := s.listErr == nil || s.listErr.Error() != err.Error()
	s.listErr = err
	s.mu.Unlock()
	if first {
		s.log.Warn("reading the runners failed", zap.Error(err))
	}
	s.notify()
	return err
}

// accept makes a list the authority, unless too much of what is ours vanished
// from it: then a second complete list and a GET of each must agree first.
func (s *Scope) accept(ctx context.Context, list bitbucket.RunnerList) {
	s.mu.Lock()
	vanished := s.vanished(list)
	known := s.suspect
	s.mu.Unlock()
	if len(vanished) > 0 {
		if known == nil || !s.confirmGone(ctx, vanished) {
			s.mu.Lock()
			s.suspect = vanished
			s.mu.Unlock()
			s.log.Warn("many runners vanished from one list, nothing is done until a second one and a read of each agree", zap.Int("vanished", len(vanished)))
			return
		}
	}
	s.mu.Lock()
	recovered := s.listErr != nil
	s.carried = s.carry(list)
	s.list, s.listErr, s.suspect = &list, nil, nil
	for _, runner := range list.Runners {
		s.stepSeen = s.stepSeen || runner.State.Step != nil
	}
	maps.DeleteFunc(s.looks, func(_ string, l look) bool { return list.Begun.After(l.begun) })
	maps.DeleteFunc(s.writes, func(_ string, w write) bool {
		return list.Begun.After(w.at.Add(s.config.WriteSettle))
	})
	s.mu.Unlock()
	if recovered {
		s.log.Info("the runners can be read again")
	}
	s.notify()
}

// carry returns the runners of ours that the list in force shows and the new one
// lacks. Called locked.
func (s *Scope) carry(list bitbucket.RunnerList) map[string]bitbucket.Runner {
	carried := map[string]bitbucket.Runner{}
	if s.list != nil {
		for _, runner := range s.list.Runners {
			if s.config.Ours(runner) {
				carried[runner.UUID] = runner
			}
		}
	}
	for _, runner := range list.Runners {
		delete(carried, runner.UUID)
	}
	return carried
}

// vanished returns the runners of ours that the new list lacks although we did
// not delete them, if they are at least 3 and more than a third. Called locked.
func (s *Scope) vanished(list bitbucket.RunnerList) []bitbucket.Runner {
	present := make(map[string]struct{}, len(list.Runners))
	for _, runner := range list.Runners {
		present[runner.UUID] = struct{}{}
	}
	var missing []bitbucket.Runner
	ours := 0
	for _, runner := range s.known() {
		if w, ok := s.writes[runner.UUID]; !s.config.Ours(runner) || ok && !list.Begun.After(w.at.Add(s.config.WriteSettle)) {
			continue // not ours, or too new for a list to be sure to show it
		}
		ours++
		if _, ok := present[runner.UUID]; !ok {
			missing = append(missing, runner)
		}
	}
	if len(missing) < 3 || 3*len(missing) <= ours {
		return nil
	}
	return missing
}

func (s *Scope) confirmGone(ctx context.Context, runners []bitbucket.Runner) bool {
	for _, runner := range runners {
		if _, _, err := s.using().GetRunner(ctx, s.Resolved(), runner.UUID); !errors.Is(err, bitbucket.ErrNotFound) {
			return false
		}
	}
	return true
}

// Hint asks for a list as soon as the floor between two allows, without waiting
// for it.
func (s *Scope) Hint() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Refresh waits for a list begun after the call. Concurrent calls share one.
// The error is ErrNoList if that list failed, or the context's.
func (s *Scope) Refresh(ctx context.Context) error {
	begun := s.config.Clock.Now()
	waiter := make(chan struct{})
	s.mu.Lock()
	s.waiters = append(s.waiters, waiter)
	s.mu.Unlock()
	s.Hint()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for a list of %s: %w", s.Written, ctx.Err())
	case <-waiter:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspect != nil || s.list == nil || s.list.Begun.Before(begun) {
		return errors.Join(fmt.Errorf("scope %s: %w", s.Written, ErrNoList), s.listErr)
	}
	return nil
}
