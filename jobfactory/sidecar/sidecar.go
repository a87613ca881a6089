package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Sidecar registers its pod's runner, follows it, and takes it away again.
type Sidecar struct {
	config Config
	pace   pace
	log    *zap.Logger
	ledger *ledger
	link   *link
}

// New makes a Sidecar; Run starts it.
func New(config Config) (*Sidecar, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	link, err := newLink(config)
	if err != nil {
		return nil, err
	}
	return &Sidecar{config: config, pace: defaultPace(), log: config.Logger, ledger: newLedger(config.Dir), link: link}, nil
}

// Run works until ctx ends, which stands for SIGTERM: the kubelet sends it to a
// native sidecar once the main container has ended. It then deregisters the
// runner, in at most 20 s, and returns. A Sidecar runs once. Run fails only where
// the shared folder cannot be used.
func (s *Sidecar) Run(ctx context.Context) (err error) {
	defer s.link.close()
	if err := os.MkdirAll(s.config.Dir, 0o777); err != nil {
		return fmt.Errorf("shared folder: %w", err)
	}
	if err := install(s.config.Dir); err != nil {
		return err
	}
	m, found, err := readMarker(s.config.Dir)
	if err != nil {
		return err
	}
	desk, err := newDesk(ctx, s.config.Dir, s.ledger, s.log)
	if err != nil {
		return err
	}

	// What is under way outlives SIGTERM: it ends when the runner is deregistered.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	defer parts.Wait()
	defer end(nil)
	parts.Go(func() {
		if err := desk.serve(life); err != nil {
			end(err)
		}
	})
	// Without its socket the sidecar is of no use.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(life, stop)()

	uncertain := false
	if found {
		s.log.Info("a runner was handed out before", zap.String("runner", m.UUID), zap.String("name", m.Name))
		s.ledger.restore(m)
	} else {
		uncertain = s.register(ctx)
	}
	parts.Go(func() { s.endUnanswered(life) })
	if now, _ := s.ledger.look(); now.phase == registered || now.phase == handedOut {
		parts.Go(func() { s.attach(life) })
	}
	s.accompany(ctx, uncertain)
	if cause := context.Cause(life); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// accompany waits for the runner's end and deregisters it: at once where exec
// reports the end, and else after SIGTERM. uncertain says that a registration
// may have been applied although no answer came.
func (s *Sidecar) accompany(ctx context.Context, uncertain bool) {
	now := s.until(ctx, func(f facts) bool { return f.ended })
	if now.ended {
		if s.deregister(ctx, now.uuid) || ctx.Err() != nil {
			<-ctx.Done()
			return
		}
		<-ctx.Done()
	}
	shielded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.pace.deregister)
	defer cancel()
	now, _ = s.ledger.look()
	switch {
	case now.phase == registering && !uncertain, now.phase == finished && !now.ended:
		return // nothing was registered
	case now.phase == handedOut && !now.ended:
		s.await(shielded)
	case !now.ended:
		s.conclude()
	}
	s.deregister(shielded, now.uuid)
}

// await gives a living exec time to report its runner's end. Where its
// connection is gone, so is the runner: SIGTERM comes after the main container.
func (s *Sidecar) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.lastWords)
	defer cancel()
	if now, _ := s.ledger.look(); now.connected {
		s.ledger.reports.put(report{state: runnerv1.RunnerState_RUNNER_STATE_STOPPING})
	}
	now := s.until(ctx, func(f facts) bool { return f.ended || !f.connected })
	if now.connected && !now.ended {
		s.log.Warn("the runner did not end in time")
		return
	}
	s.conclude()
}

// conclude notes that no runner process is left.
func (s *Sidecar) conclude() {
	if err := s.ledger.end(); err != nil {
		s.log.Warn("the marker was not brought up to date", zap.Error(err))
	}
}

// until waits for the facts to be as asked or ctx to end, and returns them.
func (s *Sidecar) until(ctx context.Context, asked func(facts) bool) facts {
	for {
		now, changed := s.ledger.look()
		if asked(now) {
			return now
		}
		select {
		case <-ctx.Done():
			return now
		case <-changed:
		}
	}
}

// deregister deletes the runner, with several tries within a bound that SIGTERM
// does not shorten. It reports whether the control plane has taken it over.
func (s *Sidecar) deregister(ctx context.Context, uuid string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.remaining(ctx))
	defer cancel()
	wait := backoff{base: s.pace.attachBase, maximum: s.pace.attachMax}
	for {
		var gone bool
		err := s.link.use(func(client runnerv1.RunnerServiceClient) error {
			call, cancel := context.WithTimeout(ctx, s.pace.deregisterCall)
			defer cancel()
			response, err := client.Deregister(call, &runnerv1.DeregisterRequest{RunnerUuid: uuid})
			gone = response.GetGone()
			return err
		})
		if err == nil {
			s.log.Info("deregistered", zap.String("runner", uuid), zap.Bool("gone", gone))
			return true
		}
		if !pause(ctx, wait.next()) {
			s.log.Warn("not deregistered, left to the control plane", zap.String("runner", uuid), zap.Error(err))
			return false
		}
	}
}

// remaining is the time for a deregistration: up to ctx's deadline, if it has
// one, and never more than the bound.
func (s *Sidecar) remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(time.Until(deadline), s.pace.deregister)
	}
	return s.pace.deregister
}
