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

// answerGrace bounds the wait for calls in progress. The longest call contains one write
// to Bitbucket, which takes at most leader.WriteTimeout.
const answerGrace = leader.WriteTimeout + time.Second

// leads reports whether this process leads now.
func (p *ControlPlane) leads() bool { return leader.Holds(p.config.Election, time.Now()) }

// lead does the work of the leader until ctx ends. Then it stops in this order: it
// withdraws the Service from this pod, finishes the calls in progress and ends the rest.
// It returns nil if all work has ended.
func (p *ControlPlane) lead(ctx context.Context) error {
	p.log.Info("leading")
	// The parts that answer calls outlive ctx.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	work, working := errgroup.WithContext(working)
	leading, cancel := context.WithCancel(ctx) // ends with ctx, or when a part fails
	defer cancel()
	context.AfterFunc(working, cancel)

	work.Go(func() error { p.budgets.keep(working, p.leads); return nil })
	work.Go(func() error { return p.scopes.Run(working) })
	work.Go(func() error { return p.queue.Run(working) })
	work.Go(func() error { return p.fleet.Run(working) })
	p.gate.Open(p.leads)
	if p.reaper != nil {
		work.Go(func() error { return p.reaper.Run(leading) })
	}
	work.Go(func() error { p.keepHistory(leading); return nil })
	work.Go(func() error { p.traceRunners(leading); return nil })
	report := unservedReport{steps: p.fleet.Unserved, events: p.config.Cluster, log: p.log}
	work.Go(func() error { report.run(leading); return nil })
	if p.config.Cluster != nil {
		problems := problemReport{look: p.viewer.Take, groups: p.config.Cluster.ScaledJobs, events: p.config.Cluster, log: p.log}
		work.Go(func() error { problems.run(leading); return nil })
	}
	if p.config.WhileLeading != nil {
		work.Go(func() error { return p.config.WhileLeading(leading) })
	}
	if p.config.WatchWarnings != nil {
		work.Go(func() error { return p.config.WatchWarnings(leading) })
	}
	work.Go(func() error { p.waitForWriteWindow(leading); return nil })
	if p.config.PollRestarter != nil {
		watch := pollWatch{groups: p.config.Cluster.ScaledJobs, lastCall: p.service.LastCall, restarter: p.config.PollRestarter, events: p.config.Cluster, log: p.log}
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

// waitForWriteWindow requests new lists at the time from which writes are allowed, if the
// previous leader did not stop in order.
func (p *ControlPlane) waitForWriteWindow(ctx context.Context) {
	term, _ := p.config.Election.Term()
	if term.From.IsZero() {
		return
	}
	p.log.Warn("the previous leader did not stop in order: runners are neither registered nor removed until its last writes have taken effect",
		zap.Duration("wait", time.Until(term.From)))
	if pause.For(ctx, clock.RealClock{}, time.Until(term.From), nil) {
		p.scopes.RefreshAll()
	}
}
