package wrapper

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// silence is how long a runner may take until its log lines say anything about its
// state. Atlassian's runner is online within a minute.
const silence = 5 * time.Minute

// stateTracker derives the runner's state from its log lines. What the lines do
// not say is never taken for idleness. It is safe for concurrent use.
type stateTracker struct {
	reports *socket.Reports
	log     *zap.Logger

	mu sync.Mutex
	// heard is true once a line announced an event.
	heard bool
	// mute is true while no line has announced an event for too long.
	mute bool
	// contradicted is true once a line announced an event that is impossible after
	// the events before it, so that lines must be missing.
	contradicted bool
	// stopping is true once the runner has to end. Lines no longer matter then.
	stopping bool
	// warned is true once the log has a warning that the lines are not understood.
	warned bool
	// begun counts the steps.
	begun uint32
	// ended is how the last step ended.
	ended socket.EndedStep
}

func newStateTracker(log *zap.Logger) *stateTracker {
	return &stateTracker{reports: socket.NewReports(socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_STARTING}), log: log}
}

// observe takes what a line announces.
func (s *stateTracker) observe(found announcement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard, s.mute = true, false
	running := s.reports.Latest()
	if found.event == eventCompleted && running.State == runnerv1.RunnerState_RUNNER_STATE_BUSY {
		s.ended = socket.EndedStep{Step: running.Step, Result: found.result}
	}
	switch {
	case s.stopping:
	case found.event == eventStep:
		s.begun++
		s.put(runnerv1.RunnerState_RUNNER_STATE_BUSY, found.step)
	case found.event == eventCompleted && running.State != runnerv1.RunnerState_RUNNER_STATE_BUSY:
		s.contradicted = true
		s.misread("the end of a step without its beginning")
	case s.contradicted:
		s.put(runnerv1.RunnerState_RUNNER_STATE_UNKNOWN, socket.Step{})
	default:
		s.put(runnerv1.RunnerState_RUNNER_STATE_IDLE, socket.Step{})
	}
}

// silent is called when the lines should have announced an event.
func (s *stateTracker) silent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.heard && !s.stopping {
		s.mute = true
		s.misread("nothing")
	}
}

// misread notes that the lines are not understood: the state is unknown rather
// than idle. The caller holds the lock.
func (s *stateTracker) misread(announced string) {
	if !s.warned {
		s.warned = true
		s.log.Warn("the format of the runner's log lines is not known, so only Bitbucket knows whether the runner has a step", zap.String("announced", announced))
	}
	s.put(runnerv1.RunnerState_RUNNER_STATE_UNKNOWN, socket.Step{})
}

// stop notes that the runner is being stopped.
func (s *stateTracker) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	s.put(runnerv1.RunnerState_RUNNER_STATE_STOPPING, socket.Step{})
}

// terminate notes that a signal is about to end the runner. A runner with a step
// may go on with it, so it stays busy.
func (s *stateTracker) terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping && s.reports.Latest().State != runnerv1.RunnerState_RUNNER_STATE_BUSY {
		s.put(runnerv1.RunnerState_RUNNER_STATE_STOPPING, socket.Step{})
	}
}

// put reports a state. The caller holds the lock.
func (s *stateTracker) put(state runnerv1.RunnerState, step socket.Step) {
	s.reports.Put(socket.Report{State: state, Step: step, Ended: s.ended, Begun: s.begun, Unrecognized: s.contradicted || s.mute})
}
