package controlplane

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Election decides which of several replicas leads.
type Election interface {
	fleet.Tenure
	// Run takes part until ctx ends, and calls lead once this replica leads; lead's
	// context ends when it no longer does. Another may lead at once when lead
	// returned nil: then all of its work has ended in order.
	Run(ctx context.Context, lead func(context.Context) error) error
}

// Signpost leads the callers to the leader.
type Signpost interface {
	// Show leads them here and nowhere else; it may be repeated.
	Show(ctx context.Context) error
	// Hide leads them here no more.
	Hide(ctx context.Context) error
}

// Times of leading.
const (
	// showEvery is how soon a signpost that somebody changed is mended.
	showEvery = 2 * time.Second
	// showAgain is the time to the next try after a failure.
	showAgain   = 250 * time.Millisecond
	showTimeout = 2 * time.Second
	// answerGrace bounds the wait for the calls that are being answered: the longest
	// has a write at Bitbucket in it, of 15 s at most.
	answerGrace = 16 * time.Second
)

// Leading reports whether this process leads now.
func (p *ControlPlane) Leading() bool { return p.gate.Leads() }

// holds reports whether the term lasts.
func (p *ControlPlane) holds() bool {
	if p.config.Election == nil {
		return true
	}
	term, ok := p.config.Election.Term()
	return ok && (term.Until.IsZero() || time.Now().Before(term.Until))
}

// compete leads, at once or when elected.
func (p *ControlPlane) compete(ctx context.Context) error {
	if p.config.Election == nil {
		return p.lead(ctx)
	}
	return p.config.Election.Run(ctx, p.lead)
}

// lead does all that one replica alone may do, until ctx ends. It stops in this
// order: callers are led here no more, calls are answered, the rest ends. nil means
// that nothing of it goes on.
func (p *ControlPlane) lead(ctx context.Context) error {
	p.log.Info("leading")
	// What answers calls outlives ctx.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	work, working := errgroup.WithContext(working)
	seeking, cancel := context.WithCancel(ctx) // ends with ctx, or with a part that failed
	defer cancel()
	context.AfterFunc(working, cancel)

	work.Go(func() error { return p.fleet.Run(working) })
	p.gate.Open(p.holds)
	if p.reaper != nil {
		work.Go(func() error { return p.reaper.Run(seeking) })
	}
	if p.config.WhileLeading != nil {
		work.Go(func() error { return p.config.WhileLeading(seeking) })
	}
	work.Go(func() error { p.settle(seeking); return nil })
	if p.config.Nudger != nil {
		nudging := nudging{groups: p.config.Cluster.ScaledJobs, asked: p.service.Asked, nudger: p.config.Nudger, log: p.log}
		work.Go(func() error { nudging.run(seeking); return nil })
	}
	p.show(seeking) // until it ends
	p.hide(ctx)
	answering, cancelAnswering := context.WithTimeout(context.WithoutCancel(ctx), answerGrace)
	defer cancelAnswering()
	cut := p.gate.Close(answering)
	stop()
	err := errors.Join(work.Wait(), cut)
	p.log.Info("leading has ended", zap.Error(err))
	return err
}

// settle asks for the list from which on writes are allowed, where the leader
// before did not end in order.
func (p *ControlPlane) settle(ctx context.Context) {
	if p.config.Election == nil {
		return
	}
	term, _ := p.config.Election.Term()
	if term.From.IsZero() {
		return
	}
	p.log.Warn("the leader before this one did not end in order: nothing is registered or removed until its last writes must have taken effect",
		zap.Duration("wait", time.Until(term.From)))
	if !sleep(ctx, time.Until(term.From)) {
		return
	}
	for _, group := range p.fleet.Groups() {
		group.Scope.Hint()
	}
}

// show keeps the signpost as it must be until ctx ends.
func (p *ControlPlane) show(ctx context.Context) {
	if p.config.Signpost == nil {
		<-ctx.Done()
		return
	}
	failing := false
	for {
		again := showEvery
		if p.holds() { // a process that was stopped for a while must not lead callers away from its successor
			trying, cancel := context.WithTimeout(ctx, showTimeout)
			err := p.config.Signpost.Show(trying)
			cancel()
			if err != nil {
				again = showAgain
			}
			if failed := err != nil; failed != failing && ctx.Err() == nil {
				failing = failed
				p.log.Warn("leading the callers here", zap.Bool("failing", failing), zap.Error(err))
			}
		}
		if !sleep(ctx, again) {
			return
		}
	}
}

// hide is tried once: the next leader does it again.
func (p *ControlPlane) hide(ctx context.Context) {
	if p.config.Signpost == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), showTimeout)
	defer cancel()
	if err := p.config.Signpost.Hide(ctx); err != nil {
		p.log.Warn("callers are still led here", zap.Error(err))
	}
}

// sleep waits; false if ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
