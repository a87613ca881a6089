package sidecar

import (
	"fmt"
	"sync"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

type phase int

const (
	// registering: what becomes of the Job is not known yet.
	registering phase = iota
	// registered: the environment waits for exec.
	registered
	// handedOut: exec was given the environment, so a runner may be running.
	handedOut
	// finished: nothing is to be started.
	finished
)

// ledger is what the sidecar knows of its runner. Safe for concurrent use.
type ledger struct {
	dir     string
	reports *reports

	mu    sync.Mutex
	facts facts
	// environment is held from registration until exec fetches it.
	environment map[string]string
	// exec counts the connections of exec; the newest speaks for it.
	exec int
	// changed is closed and replaced with each change of the facts.
	changed chan struct{}
}

// facts are a copy of what the ledger holds at one moment.
type facts struct {
	phase      phase
	uuid, name string
	// reason says why phase is finished.
	reason string
	// connected is true while exec's connection stands.
	connected bool
	// stop is true once the runner is to be ended, with stopReason.
	stop       bool
	stopReason string
	// terminating is true once the pod is being deleted.
	terminating bool
	// acknowledged is true once the control plane that the present stream leads to
	// has said that it takes the runner away.
	acknowledged bool
	place        *runnerv1.Place
	// ended is true once no runner process runs any more, nor will.
	ended bool
}

func newLedger(dir string) *ledger {
	return &ledger{
		dir: dir, changed: make(chan struct{}),
		reports: newReports(report{state: runnerv1.RunnerState_RUNNER_STATE_STARTING}),
	}
}

// look returns the facts and a channel that is closed when they change.
func (l *ledger) look() (facts, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.facts, l.changed
}

// change applies a change under the lock and tells whoever looks.
func (l *ledger) change(apply func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	apply()
	close(l.changed)
	l.changed = make(chan struct{})
}

// restore takes over what an earlier process of this sidecar handed out.
func (l *ledger) restore(m marker) {
	l.change(func() {
		l.facts.phase, l.facts.uuid, l.facts.name, l.facts.ended = handedOut, m.UUID, m.Name, m.Ended
		l.facts.place = m.Place.wire()
		state := runnerv1.RunnerState_RUNNER_STATE_UNKNOWN
		if m.Ended {
			state = runnerv1.RunnerState_RUNNER_STATE_ENDED
		}
		l.reports.put(report{state: state})
	})
}

func (l *ledger) register(runner *runnerv1.Runner) {
	l.change(func() {
		l.facts.phase, l.facts.uuid, l.facts.name = registered, runner.GetUuid(), runner.GetName()
		l.facts.place = runner.GetPlace()
		l.environment = runner.GetEnvironment()
		if l.facts.terminating {
			l.abandon("the pod is deleted")
		}
	})
}

func (l *ledger) finish(reason string) {
	l.change(func() { l.facts.phase, l.facts.reason = finished, reason })
}

// handOut answers exec's fetch. It is called once the phase is past registering.
func (l *ledger) handOut() (answer message, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.facts.phase {
	case finished:
		return message{Type: typeFinish, Reason: l.facts.reason}, nil
	case registered:
		if err := writeMarker(l.dir, l.marker(false)); err != nil {
			return message{}, err
		}
		answer = message{Type: typeEnvironment, Environment: l.environment}
		l.environment = nil
		l.facts.phase = handedOut
		return answer, nil
	default:
		return message{Type: typeRefused, Reason: "the environment was handed out before, and is handed out only once"}, nil
	}
}

// connect makes a connection the one that speaks for exec.
func (l *ledger) connect() (exec int) {
	l.change(func() {
		l.exec++
		exec = l.exec
		l.facts.connected = true
	})
	return exec
}

// disconnect notes that a connection broke. That alone says nothing of the
// runner: exec may be restarting the connection, or be gone.
func (l *ledger) disconnect(exec int) {
	l.change(func() {
		if exec != l.exec {
			return
		}
		l.facts.connected = false
		if !l.facts.ended {
			l.reports.put(report{state: runnerv1.RunnerState_RUNNER_STATE_UNKNOWN, begun: l.reports.now().begun})
		}
	})
}

// report notes a state that exec tells.
func (l *ledger) report(exec int, r report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if exec == l.exec && !l.facts.ended {
		l.reports.put(r)
	}
}

// end notes that no runner process runs any more. It returns an error where that
// could not be kept for a later start of the sidecar.
func (l *ledger) end() (err error) {
	l.change(func() {
		if l.facts.ended {
			return
		}
		l.facts.ended = true
		l.reports.put(report{state: runnerv1.RunnerState_RUNNER_STATE_ENDED})
		if l.facts.phase == handedOut {
			if err = writeMarker(l.dir, l.marker(true)); err != nil {
				err = fmt.Errorf("note the runner's end: %w", err)
			}
		}
	})
	return err
}

// marker is what a later start of the sidecar must know. Called locked.
func (l *ledger) marker(ended bool) marker {
	return marker{UUID: l.facts.uuid, Name: l.facts.name, Place: placeOf(l.facts.place), Ended: ended}
}

// terminate notes that the pod is being deleted. A runner that was not started
// never will be.
func (l *ledger) terminate() {
	l.change(func() {
		l.facts.terminating = true
		l.abandon("the pod is deleted")
	})
	l.reports.again()
}

// acknowledge notes whether the control plane takes the runner away.
func (l *ledger) acknowledge(acknowledged bool) {
	l.change(func() { l.facts.acknowledged = acknowledged })
}

// stop notes the order to end the runner. One that was not started never will be.
func (l *ledger) stop(reason string) {
	l.change(func() {
		l.facts.stop, l.facts.stopReason = true, reason
		l.abandon(reason)
	})
}

// abandon gives up a runner that waits for exec. Called locked.
func (l *ledger) abandon(reason string) {
	if l.facts.phase != registered {
		return
	}
	l.environment = nil
	l.facts.phase, l.facts.reason, l.facts.ended = finished, reason, true
	l.reports.put(report{state: runnerv1.RunnerState_RUNNER_STATE_ENDED})
}
