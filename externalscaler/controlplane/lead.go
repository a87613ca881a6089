package controlplane

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/leader"
	"bitbucket-runner-scaler/externalscaler/pause"
)

// answerGrace bounds the wait for the calls that are being answered: the longest
// has a write at Bitbucket in it, of leader.WriteTimeout at most.
const answerGrace = leader.WriteTimeout + time.Second

// leads reports whether this process leads now.
func (p *ControlPlane) leads() bool { return leader.Holds(p.config.Election, time.Now()) }

// lead does all that one replica alone may do, until ctx ends. It stops in this
// order: callers are no longer led here, calls are answered, the rest ends. nil
// means that nothing of it goes on.
func (p *ControlPlane) lead(ctx context.Context) error {
	p.log.Info("leading")
	// What answers calls outlives ctx.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	work, working := errgroup.WithContext(working)
	leading, cancel := context.WithCancel(ctx) // ends with ctx, or with a part that failed
	defer cancel()
	context.AfterFunc(working, cancel)

	work.Go(func() error { return p.scopes.Run(working) })
	work.Go(func() error { return p.fleet.Run(working) })
	p.gate.Open(p.leads)
	if p.reaper != nil {
		work.Go(func() error { return p.reaper.Run(leading) })
	}
	if p.config.WhileLeading != nil {
		work.Go(func() error { return p.config.WhileLeading(leading) })
	}
	work.Go(func() error { p.waitForWriteWindow(leading); return nil })
	if p.config.PollRestarter != nil {
		watch := pollWatch{groups: p.config.Cluster.ScaledJobs, asked: p.service.LastCall, restarter: p.config.PollRestarter, log: p.log}
		work.Go(func() error { watch.run(leading); return nil })
	}
	if p.config.LeaderService != nil {
		leader.KeepPointed(leading, p.config.LeaderService, p.config.Election, clock.RealClock{}, p.log)
	} else {
		<-leading.Done()
	}
	answering, cancelAnswering := context.WithTimeout(context.WithoutCancel(ctx), answerGrace)
	defer cancelAnswering()
	cut := p.gate.Close(answering)
	stop()
	err := errors.Join(work.Wait(), cut)
	p.log.Info("leading has ended", zap.Error(err))
	return err
}

// waitForWriteWindow asks for the lists from which on writes are allowed, if the
// leader before did not end in order.
func (p *ControlPlane) waitForWriteWindow(ctx context.Context) {
	term, _ := p.config.Election.Term()
	if term.From.IsZero() {
		return
	}
	p.log.Warn("the previous leader did not end in order: nothing is registered or removed until its last writes must have taken effect",
		zap.Duration("wait", time.Until(term.From)))
	if pause.For(ctx, clock.RealClock{}, time.Until(term.From), nil) {
		p.scopes.RefreshAll()
	}
}
