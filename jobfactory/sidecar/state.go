package sidecar

import (
	"context"
	"fmt"
	"sync"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

type phase int

const (
	// registering: the control plane has not decided about the Job yet.
	registering phase = iota
	// registered: the environment waits for `sidecar exec`.
	registered
	// handedOut: `sidecar exec` has the environment, so a runner may be running.
	handedOut
	// finished: no runner is to be started.
	finished
)

// state is what the sidecar knows about its runner. It is safe for concurrent use.
type state struct {
	dir     string
	reports *socket.Reports

	mu      sync.Mutex
	current snapshot
	// environment is kept from the registration until `sidecar exec` fetches it.
	environment map[string]string
	// exec numbers the connections of `sidecar exec`. Only the newest one counts.
	exec int
	// changed is closed and replaced with each change of the snapshot.
	changed chan struct{}
}

// snapshot is a copy of the state at one moment.
type snapshot struct {
	phase      phase
	uuid, name string
	// reason says why phase is finished.
	reason string
	// connected is true while `sidecar exec` is connected.
	connected bool
	// stop is true once the runner has to stop, for stopReason.
	stop       bool
	stopReason string
	// terminating is true once the pod is being deleted.
	terminating bool
	// acknowledged is true once the control plane at the other end of the current
	// stream has announced that it drains the runner.
	acknowledged bool
	// place is where the runner is registered, as in runner/v1.
	place *runnerv1.Place
	// ended is true once no runner process runs or can still start.
	ended bool
	// exit is how the runner process ended; nil if `sidecar exec` did not report it.
	exit *exit
}

// exit is the end of a runner process.
type exit struct {
	code int
	// lastLine of its output; empty if it is not known.
	lastLine string
}

func newState(dir string) *state {
	return &state{
		dir: dir, changed: make(chan struct{}),
		reports: socket.NewReports(socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_STARTING}),
	}
}

func (s *state) get() snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// wait blocks until the condition holds or ctx ends. It returns the last snapshot
// and whether the condition holds.
func (s *state) wait(ctx context.Context, condition func(snapshot) bool) (snapshot, bool) {
	for {
		s.mu.Lock()
		now, changed := s.current, s.changed
		s.mu.Unlock()
		if condition(now) {
			return now, true
		}
		select {
		case <-ctx.Done():
			return now, false
		case <-changed:
		}
	}
}

// change applies a change under the lock and wakes every wait.
func (s *state) change(apply func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	apply()
	close(s.changed)
	s.changed = make(chan struct{})
}

// restore takes over what an earlier process of this sidecar handed out.
func (s *state) restore(m marker) {
	s.change(func() {
		s.current.phase, s.current.uuid, s.current.name, s.current.ended = handedOut, m.UUID, m.Name, m.Ended
		s.current.place = m.Place.wire()
		runner := runnerv1.RunnerState_RUNNER_STATE_UNKNOWN
		if m.Ended {
			runner = runnerv1.RunnerState_RUNNER_STATE_ENDED
		}
		s.reports.Put(socket.Report{State: runner})
	})
}

func (s *state) register(runner *runnerv1.Runner) {
	s.change(func() {
		s.current.phase, s.current.uuid, s.current.name = registered, runner.GetUuid(), runner.GetName()
		s.current.place = runner.GetPlace()
		s.environment = runner.GetEnvironment()
		if s.current.terminating {
			s.abandon("the pod is being deleted")
		}
	})
}

func (s *state) finish(reason string) {
	s.change(func() { s.current.phase, s.current.reason = finished, reason })
}

// handOut returns the answer to a fetch. The phase must be past registering.
func (s *state) handOut() (answer socket.Message, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.current.phase {
	case finished:
		return socket.Message{Type: socket.TypeFinish, Reason: s.current.reason}, nil
	case registered:
		if err := writeMarker(s.dir, s.marker(false)); err != nil {
			return socket.Message{}, err
		}
		answer = socket.Message{Type: socket.TypeEnvironment, Environment: s.environment}
		s.environment = nil
		s.current.phase = handedOut
		return answer, nil
	default:
		return socket.Message{Type: socket.TypeRefused, Reason: "another client has the environment, which is handed out only once"}, nil
	}
}

// connect makes a connection the one that counts for `sidecar exec`, and returns
// its number.
func (s *state) connect() (exec int) {
	s.change(func() {
		s.exec++
		exec = s.exec
		s.current.connected = true
	})
	return exec
}

// disconnect notes that a connection broke. This alone does not mean that the
// runner has ended: `sidecar exec` may connect again.
func (s *state) disconnect(exec int) {
	s.change(func() {
		if exec != s.exec {
			return
		}
		s.current.connected = false
		if !s.current.ended {
			last := s.reports.Latest()
			s.reports.Put(socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_UNKNOWN, Begun: last.Begun, Ended: last.Ended})
		}
	})
}

// report takes a report that came over a connection.
func (s *state) report(exec int, r socket.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if exec == s.exec && !s.current.ended {
		s.reports.Put(r)
	}
}

// exited notes how the runner process ended.
func (s *state) exited(how exit) {
	s.change(func() { s.current.exit = &how })
}

// end notes that no runner process is left. It returns an error if it cannot save
// that for a later process of the sidecar.
func (s *state) end() (err error) {
	s.change(func() {
		if s.current.ended {
			return
		}
		s.current.ended = true
		s.reports.Put(socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_ENDED, Ended: s.reports.Latest().Ended})
		if s.current.phase == handedOut {
			if err = writeMarker(s.dir, s.marker(true)); err != nil {
				err = fmt.Errorf("save the runner's end: %w", err)
			}
		}
	})
	return err
}

// marker returns what a later process of the sidecar must know. The caller holds
// the lock.
func (s *state) marker(ended bool) marker {
	return marker{UUID: s.current.uuid, Name: s.current.name, Place: placeOf(s.current.place), Ended: ended}
}

// terminate notes that the pod is being deleted. A runner that has not been started
// never will be.
func (s *state) terminate() {
	s.change(func() {
		s.current.terminating = true
		s.abandon("the pod is being deleted")
	})
	s.reports.Repeat()
}

// acknowledge notes whether the control plane drains the runner.
func (s *state) acknowledge(acknowledged bool) {
	s.change(func() { s.current.acknowledged = acknowledged })
}

// stop notes the order to stop the runner. A runner that has not been started never
// will be.
func (s *state) stop(reason string) {
	s.change(func() {
		s.current.stop, s.current.stopReason = true, reason
		s.abandon(reason)
	})
}

// abandon gives up a runner that waits for `sidecar exec`. The caller holds the
// lock.
func (s *state) abandon(reason string) {
	if s.current.phase != registered {
		return
	}
	s.environment = nil
	s.current.phase, s.current.reason, s.current.ended = finished, reason, true
	s.reports.Put(socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_ENDED})
}
