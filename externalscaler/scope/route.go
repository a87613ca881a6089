package scope

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
)

// internalRetry is how long after the internal list was of no use it is not tried again.
const internalRetry = time.Hour

// route is by which of Bitbucket's two routes a scope is listed: the public one, and the
// internal one if it shows steps that the public one lacks.
type route struct {
	internal bool
	// useless is when the internal list last failed or lacked a step too.
	useless time.Time
}

// listRunners lists the scope by the route that shows steps.
func (s *scope) listRunners(ctx context.Context, resolved bitbucket.Scope) (bitbucket.RunnerList, error) {
	s.mu.Lock()
	internal := s.route.internal
	s.mu.Unlock()
	if !internal {
		return s.using().ListRunners(ctx, resolved)
	}
	list, err := s.using().ListRunnersInternally(ctx, resolved)
	if err == nil || ctx.Err() != nil || errors.Is(err, bitbucket.ErrRateLimited) || errors.Is(err, bitbucket.ErrBudgetExhausted) {
		return list, err // nothing is wrong with the route
	}
	s.log.Warn("the internal list of runners cannot be read, the public one is used again", zap.Error(err))
	s.mu.Lock()
	s.route = route{useless: s.config.Clock.Now()}
	s.mu.Unlock()
	return s.using().ListRunners(ctx, resolved)
}

// distrustSteps notes that the list begun at that time lacks a step that there is:
// until a list shows a step again, the absence of one proves nothing. The next list
// comes by the other route.
func (s *scope) distrustSteps(listBegun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil || !s.list.Begun.Equal(listBegun) {
		return
	}
	s.stepSeen, s.view = false, nil
	now := s.config.Clock.Now()
	switch {
	case s.list.Internal:
		s.route = route{useless: now}
	case s.route.internal: // the next list will show whether that helps
	case s.route.useless.IsZero() || now.Sub(s.route.useless) > internalRetry:
		s.route.internal = true
		s.log.Info("the list of runners lacks a step that a runner has: the internal list is tried")
	}
}
