package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/e2e/process"
)

// sidecar is a native sidecar. If it ends before it is stopped, it is started again.
type sidecar struct {
	pod       *pod
	container *container
	stop      chan struct{}
	done      chan struct{}

	mu       sync.Mutex
	process  *process.Process
	stopping bool
}

var errDeleted = errors.New("deleted before it was ready")

// startSidecar starts a sidecar and waits for its startup probe.
func (p *pod) startSidecar(ctx context.Context, c *container) error {
	s := &sidecar{pod: p, container: c, stop: make(chan struct{}), done: make(chan struct{})}
	first, err := p.start(c, c.command)
	if err != nil {
		return err
	}
	s.process = first
	p.mu.Lock()
	p.sidecars = append(p.sidecars, s)
	p.mu.Unlock()
	go s.keep()
	if len(c.probe) == 0 {
		return nil
	}
	return p.probe(ctx, c)
}

// keep restarts the sidecar until it is stopped.
func (s *sidecar) keep() {
	defer close(s.done)
	delay := time.Duration(0) // the first restart has no delay
	for {
		s.mu.Lock()
		current := s.process
		s.mu.Unlock()
		<-current.Done()
		timer := time.NewTimer(s.pod.real(delay))
		select {
		case <-s.stop:
			timer.Stop()
			return
		case <-s.pod.killed:
			timer.Stop()
			return
		case <-timer.C:
		}
		delay = min(max(2*delay, restartBase), restartMax)
		s.mu.Lock()
		if s.stopping {
			s.mu.Unlock()
			return
		}
		next, err := s.pod.start(s.container, s.container.command)
		if err != nil {
			s.mu.Unlock()
			s.pod.log.Info("sidecar not started again", zap.Error(err))
			return
		}
		s.process = next
		s.mu.Unlock()
	}
}

// kill kills the process. It returns false if none runs.
func (s *sidecar) kill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.process.Done():
		return false
	default:
	}
	if s.stopping {
		return false
	}
	s.process.Signal(syscall.SIGKILL)
	return true
}

// end stops the sidecar in order.
func (s *sidecar) end(grace time.Duration) {
	s.mu.Lock()
	s.stopping = true
	current := s.process
	s.mu.Unlock()
	close(s.stop)
	select {
	case <-s.pod.killed:
	default:
		current.End(grace)
	}
	<-s.done
}

// probe runs a startup probe until it passes.
func (p *pod) probe(ctx context.Context, c *container) error {
	period := max(p.real(c.probePeriod), 50*time.Millisecond)
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for range c.probeFailures {
		probe, err := p.start(c, c.probe)
		if err != nil {
			return err
		}
		select {
		case <-probe.Done():
			if probe.Err() == nil {
				return nil
			}
		case <-p.deleted:
			return errDeleted
		case <-p.killed:
			return errKilled
		}
		select {
		case <-ticker.C:
		case <-p.deleted:
			return errDeleted
		case <-p.killed:
			return errKilled
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("startup probe of %s failed %d times", c.spec.Name, c.probeFailures)
}
