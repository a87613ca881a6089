package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Tenure says whether, and until when, this process is the one that may write
// at Bitbucket: of several replicas only the leader is.
type Tenure interface {
	// Term is the present one; false where this process may not write.
	Term() (Term, bool)
}

// Term bounds the writes of a leader.
type Term struct {
	// From: nothing is written before a list begun after it, since the last writes
	// of a leader that died may still be taking effect. Zero where the one before left
	// in order.
	From time.Time
	// Until: every write has ended by then, since another may lead from then on.
	// Zero without a bound. It moves on as the lease is renewed.
	Until time.Time
}

// ErrNotWritable says that this process may not write in the scope, or not yet.
var ErrNotWritable = errors.New("not the leader, or not settled as one yet")

// writable gives the context for one write, bounded by the term.
func (s *Scope) writable(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("write in scope %s: %w", s.Written, err)
	}
	s.mu.Lock()
	lost := s.config.Places != nil && !s.kept
	s.mu.Unlock()
	if lost {
		return nil, nil, fmt.Errorf("scope %s would not be found again after a restart: %w", s.Written, ErrNotWritable)
	}
	if s.config.Tenure == nil {
		ctx, cancel := finished(ctx)
		return ctx, cancel, nil
	}
	term, ok := s.config.Tenure.Term()
	now := s.config.Clock.Now()
	if !ok || !term.From.IsZero() && !s.ListBegun().After(term.From) || !term.Until.IsZero() && !now.Before(term.Until) {
		return nil, nil, fmt.Errorf("scope %s: %w", s.Written, ErrNotWritable)
	}
	ctx, cancel := finished(ctx)
	if !term.Until.IsZero() {
		go s.endWithTerm(ctx, cancel)
	}
	return ctx, cancel, nil
}

// WriteTimeout bounds each write at Bitbucket, retries included: who stops in order
// waits for it, and a pod's grace period must have room for it.
const WriteTimeout = 15 * time.Second

// finished lets a write that has begun go on to its end where the caller is told to
// stop: cut, it might take effect under the next leader.
func finished(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := WriteTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// endWithTerm cuts a write when the term ends, which moves on while it lasts.
func (s *Scope) endWithTerm(ctx context.Context, cut context.CancelFunc) {
	for {
		term, ok := s.config.Tenure.Term()
		rest := term.Until.Sub(s.config.Clock.Now())
		if !ok || rest <= 0 {
			cut()
			return
		}
		timer := s.config.Clock.NewTimer(rest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}

// Writable reports whether a write may be tried now.
func (s *Scope) Writable() error {
	_, cancel, err := s.writable(context.Background())
	if err == nil {
		cancel()
	}
	return err
}
