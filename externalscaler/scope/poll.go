package scope

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/pause"
)

// errAlias says that another scope stands for the same UUIDs.
var errAlias = errors.New("the scope is known by another spelling")

// run polls until ctx ends: one list per interval, jittered by a tenth so that many
// scopes do not call in step, and sooner on refresh, but never sooner than the
// floor: a caller that asks in a loop must not use up the hourly budget.
func (s *scope) run(ctx context.Context) {
	failures := 0
	for {
		begun := s.config.Clock.Now()
		err := s.poll(ctx)
		if errors.Is(err, errAlias) {
			return
		}
		if failures++; err == nil {
			failures = 0
		}
		if !pause.For(ctx, s.config.Clock, s.config.floor(), nil) {
			return
		}
		wake := s.wake
		if permanent(err) {
			wake = nil // a refresh would show the same
		}
		rest := s.next(err, failures, s.stretch()) - s.config.Clock.Since(begun)
		if !pause.For(ctx, s.config.Clock, rest, wake) {
			return
		}
	}
}

// Longest times to the next list after failures.
const (
	// permanentInterval is for a scope that needs a person: a typo, or missing rights.
	permanentInterval = 5 * time.Minute
	// limitedIntervals is in poll intervals, below the three after which a list is stale.
	limitedIntervals = 2
)

// permanent reports whether a failure lasts until someone changes something.
func permanent(err error) bool {
	return errors.Is(err, bitbucket.ErrNotFound) || errors.Is(err, bitbucket.ErrUnauthorized) ||
		errors.Is(err, bitbucket.ErrForbidden) || errors.Is(err, bitbucket.ErrMissingScope)
}

// stretch takes up the interval that the scopes of the credentials set leave each of
// them now.
func (s *scope) stretch() time.Duration {
	interval := s.pollInterval()
	s.mu.Lock()
	changed := s.interval != interval
	if changed {
		s.interval, s.view = interval, nil
	}
	s.mu.Unlock()
	if changed {
		s.log.Info("the time between two lists of a scope has changed, for the hourly budget of its credentials", zap.Duration("interval", interval))
		s.changed()
	}
	return interval
}

// next is the time from the begin of the last list to the next, after so many
// failures in a row. It doubles with each, for this scope alone.
func (s *scope) next(err error, failures int, interval time.Duration) time.Duration {
	longest := interval
	switch {
	case permanent(err):
		longest = permanentInterval
	case errors.Is(err, bitbucket.ErrRateLimited):
		longest = limitedIntervals * interval
	}
	s.mu.Lock()
	retry := err != nil || s.suspect != nil || s.list == nil
	s.mu.Unlock()
	if retry {
		interval = min(longest, s.config.RetryInterval<<min(max(failures-1, 0), 16))
	}
	interval -= time.Duration(rand.Int64N(int64(interval)/10 + 1)) //nolint:gosec // jitter, not a secret
	var limited *bitbucket.RateLimitedError
	if errors.As(err, &limited) {
		interval = max(interval, limited.RetryAfter)
	}
	return interval
}

// refresh asks for a list as soon as the floor between two allows, without waiting
// for it.
func (s *scope) refresh() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// poll reads one list. The error is the list's, and has been logged.
func (s *scope) poll(ctx context.Context) error {
	select {
	case <-s.wake: // this list serves all refreshes before now
	default:
	}
	ctx, cancel := context.WithTimeout(bitbucket.WithoutRetries(ctx), s.config.ListTimeout)
	defer cancel()
	resolved, err := s.resolve(ctx)
	if errors.Is(err, errAlias) {
		return err
	}
	if err != nil {
		return s.failed(ctx, err)
	}
	list, err := s.using().ListRunners(ctx, resolved)
	if err != nil {
		return s.failed(ctx, err)
	}
	s.accept(ctx, list)
	return nil
}

// resolve finds the scope's UUIDs, once; errAlias if another scope has them.
func (s *scope) resolve(ctx context.Context) (bitbucket.Scope, error) {
	if resolved := s.resolvedScope(); resolved.Workspace != "" {
		return resolved, nil
	}
	resolved, err := s.using().ResolveScope(ctx, s.id.Scope)
	if err != nil {
		return bitbucket.Scope{}, err
	}
	s.mu.Lock()
	s.resolved, s.view = resolved, nil
	s.mu.Unlock()
	if !s.claim(resolved) {
		return bitbucket.Scope{}, errAlias
	}
	return resolved, nil
}

// failed keeps the error and logs it if it is a new one.
func (s *scope) failed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	s.mu.Lock()
	first := s.listErr == nil || s.listErr.Error() != err.Error()
	s.listErr, s.view = err, nil
	s.mu.Unlock()
	if first {
		s.log.Warn("reading the runners failed", zap.Error(err))
	}
	s.changed()
	return err
}
