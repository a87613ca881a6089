package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Sidecar registers its pod's runner, follows it and deregisters it.
type Sidecar struct {
	config    Config
	pace      pace
	log       *zap.Logger
	state     *state
	registrar *registrarClient
}

// New returns a Sidecar that Run starts.
func New(config Config) (*Sidecar, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	registrar, err := newRegistrarClient(config)
	if err != nil {
		return nil, err
	}
	return &Sidecar{config: config, pace: defaultPace(), log: config.Logger, state: newState(config.Dir), registrar: registrar}, nil
}

// Run works until ctx ends, which stands for SIGTERM: the kubelet sends it to a
// native sidecar once the main container has ended. Run then deregisters the
// runner, in at most 20 s, and returns. It may be called once. It returns an error
// only if the shared folder cannot be used.
func (s *Sidecar) Run(ctx context.Context) (err error) {
	defer s.registrar.close()
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
	server, err := newSocketServer(ctx, s.config.Dir, s.state, s.log)
	if err != nil {
		return err
	}

	// The parts outlive SIGTERM: they end when the runner is deregistered.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	defer parts.Wait()
	defer end(nil)
	parts.Go(func() {
		if err := server.serve(life); err != nil {
			end(err)
		}
	})
	// Without its socket the sidecar is of no use.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(life, stop)()

	uncertain := false
	if found {
		s.log.Info("an earlier process of this sidecar handed out the runner", zap.String("runner", m.UUID), zap.String("name", m.Name))
		s.state.restore(m)
	} else {
		uncertain = s.register(ctx)
	}
	parts.Go(func() { s.stopUnanswered(life) })
	if phase := s.state.get().phase; phase == registered || phase == handedOut {
		parts.Go(func() { s.attach(life) })
	}
	s.waitAndDeregister(ctx, uncertain)
	if cause := context.Cause(life); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// waitAndDeregister waits for the runner's end and deregisters the runner: at once
// if `sidecar exec` reports the end, else after SIGTERM. uncertain means that a
// registration may have been applied although no answer came.
func (s *Sidecar) waitAndDeregister(ctx context.Context, uncertain bool) {
	if now, ended := s.state.wait(ctx, func(now snapshot) bool { return now.ended }); ended {
		if s.deregister(ctx, now) || ctx.Err() != nil {
			<-ctx.Done()
			return
		}
		<-ctx.Done()
	}
	shielded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.pace.deregister)
	defer cancel()
	now := s.state.get()
	switch {
	case now.phase == registering && !uncertain, now.phase == finished && !now.ended:
		return // nothing was registered
	case now.phase == handedOut && !now.ended:
		s.waitForExec(shielded)
	case !now.ended:
		s.noteEnd()
	}
	s.deregister(shielded, s.state.get())
}

// waitForExec gives a `sidecar exec` that is still connected time to report its
// runner's end. Without a connection the runner has ended, because SIGTERM comes
// after the main container.
func (s *Sidecar) waitForExec(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.lastReport)
	defer cancel()
	if s.state.get().connected {
		s.state.reports.Put(socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_STOPPING})
	}
	if _, gone := s.state.wait(ctx, func(now snapshot) bool { return now.ended || !now.connected }); !gone {
		s.log.Warn("the runner did not end in time")
		return
	}
	s.noteEnd()
}

// noteEnd notes that no runner process is left.
func (s *Sidecar) noteEnd() {
	if err := s.state.end(); err != nil {
		s.log.Warn("the marker was not updated", zap.Error(err))
	}
}
