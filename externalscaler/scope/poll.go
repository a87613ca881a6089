package scope

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/pause"
)

// errAlias says that another scope stands for the same UUIDs.
var errAlias = errors.New("the scope is known by another spelling")

// run polls until ctx ends: one list per interval, jittered by a twentieth so that
// many scopes do not call in step, and sooner on refresh.
func (s *scope) run(ctx context.Context) {
	failures := 0
	early := rate.NewLimiter(rate.Every(s.config.PollInterval), earlyLists)
	hurried := false
	s.stretch(s.config.stretched(s.pace())) // the pacer knows of the scope before its first list
	for {
		begun := s.config.Clock.Now()
		err := s.poll(ctx, hurried)
		if errors.Is(err, errAlias) {
			return
		}
		if failures++; err == nil {
			failures = 0
		}
		if !pause.For(ctx, s.config.Clock, s.config.floor(), nil) {
			return
		}
		next := begun.Add(s.next(err, failures))
		var alive bool
		if hurried, alive = s.rest(ctx, next, early, permanent(err)); !alive {
			return
		}
	}
}

// rest waits for the time of the next list, or for a refresh if it may be early. A refresh
// that may not be waits, too, until the credentials set has a call for it. The list is not
// early where it would show the same. rest returns false for alive if ctx ended.
func (s *scope) rest(ctx context.Context, next time.Time, limit *rate.Limiter, same bool) (early, alive bool) {
	for {
		now := s.config.Clock.Now()
		wait := min(next.Sub(now), s.config.PollInterval)
		if wait <= 0 {
			return false, true
		}
		wake := s.wake
		if same || limit.TokensAt(now) < 1 || !s.hurry() {
			wake = nil
		}
		if !pause.For(ctx, s.config.Clock, wait, wake) {
			return false, false
		}
		if s.config.Clock.Since(now) < wait {
			return limit.AllowN(s.config.Clock.Now(), 1), true
		}
	}
}

const (
	// earlyLists is how many lists in a row may be read before their interval ends. Each
	// interval that passes allows one more. So a caller that asks in a loop, or registers
	// and removes many runners, at most doubles what a scope costs.
	earlyLists = 5
	// permanentInterval is the longest time to the next list of a scope that needs a
	// person: a typo, or missing rights.
	permanentInterval = 5 * time.Minute
	// limitedIntervals is the longest time to the next list after a 429, in intervals. It
	// is below the three after which a list is stale.
	limitedIntervals = 2
)

// permanent reports whether a failure lasts until someone changes something.
func permanent(err error) bool {
	return errors.Is(err, bitbucket.ErrNotFound) || errors.Is(err, bitbucket.ErrUnauthorized) ||
		errors.Is(err, bitbucket.ErrForbidden) || errors.Is(err, bitbucket.ErrMissingScope)
}

// next is the time from the begin of the last list to the next, after so many
// failures in a row.
func (s *scope) next(err error, failures int) time.Duration {
	wanted := s.want(err, failures)
	factor := s.pace()
	s.stretch(s.config.stretched(factor))
	interval := time.Duration(float64(wanted) * factor)
	interval += time.Duration(rand.Int64N(int64(interval)/10+1)) - interval/20 //nolint:gosec // jitter, not a secret
	var limited *bitbucket.RateLimitedError
	if errors.As(err, &limited) {
		interval = max(interval, limited.RetryAfter)
	}
	return interval
}

// want is the time to the next list if the budget allows it. It doubles with each
// failure, for this scope alone.
func (s *scope) want(err error, failures int) time.Duration {
	wanted := s.config.PollInterval
	longest := wanted
	switch {
	case permanent(err):
		longest = permanentInterval
	case errors.Is(err, bitbucket.ErrRateLimited):
		longest = limitedIntervals * wanted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.suspect != nil || s.list == nil {
		wanted = min(longest, s.config.RetryInterval<<min(max(failures-1, 0), 16))
	}
	s.wanted = wanted
	return wanted
}

// stretch puts an interval in force.
func (s *scope) stretch(interval time.Duration) {
	s.mu.Lock()
	last := s.interval
	if last != interval {
		s.interval, s.view = interval, nil
	}
	s.mu.Unlock()
	if last == interval {
		return
	}
	if stretched := s.config.noticeable(interval); stretched != s.config.noticeable(last) {
		s.log.Info("the time between two lists of a scope has changed, for the hourly budget of its credentials", zap.Duration("interval", interval), zap.Bool("stretched", stretched))
	}
	s.changed()
}

// refresh asks for a list as soon as the floor between two allows, without waiting
// for it.
func (s *scope) refresh() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// poll reads one list. A hurried one counts as part of the registration or removal of the
// runner that it is for. The error is the list's, and has been logged.
func (s *scope) poll(ctx context.Context, hurried bool) error {
	select {
	case <-s.wake: // this list serves all refreshes before now
	default:
	}
	ctx, cancel := context.WithTimeout(bitbucket.WithoutRetries(ctx), s.config.ListTimeout)
	defer cancel()
	if hurried {
		ctx = bitbucket.ForRegistration(ctx)
	}
	resolved, err := s.resolve(ctx)
	if errors.Is(err, errAlias) {
		return err
	}
	if err != nil {
		return s.failed(ctx, err)
	}
	list, err := s.listRunners(ctx, resolved)
	if err != nil {
		return s.failed(ctx, err)
	}
	s.accept(ctx, list)
	s.noteListed(ctx)
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
	s.noteFailed(ctx, err)
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
