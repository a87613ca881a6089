package queue

import (
	"time"

	"bitbucket-runner-scaler/bitbucket/builds"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// step is what is known of one step.
type step struct {
	id string
	// shown is Bitbucket's state of the step.
	shown pipelines.State
	run   int
	// reported is what a runner has reported, or a list of runners shows, which Bitbucket's state
	// may lag behind; zero if nothing. at is when.
	reported pipelines.State
	at       time.Time
	// ours is true if one of our runners runs the step, and reports its end.
	ours bool
	// paused is true if Bitbucket has shown it waiting for something else than a runner, and
	// unpaused counts the reads in a row that do not, although all steps before it have ended.
	// Bitbucket may show no difference between a step that it has not reached and one that only
	// lacks a runner.
	paused   bool
	unpaused int
	// running is when it was first seen running, and begun when its runner reported that: up to
	// half a minute after Bitbucket gave it to the runner.
	running, begun time.Time
	// waiting is when it was first seen to wait; zero if it does not. predicted is true if no
	// read has shown it waiting.
	waiting   time.Time
	predicted bool
	// waited is when it was first seen to wait, from when Bitbucket shows it running until its
	// runner reports it; else zero.
	waited time.Time
}

// state is what is believed of a step.
func (s step) state() pipelines.State {
	state := s.shown
	switch {
	case s.reported.Name != "":
		return s.reported
	case state.Stage == "" && (s.unpaused > 1 || s.unpaused > 0 && s.paused):
		state.Stage = pipelines.StagePending
	}
	return state
}

// surprises reports whether the step was not known to wait. If it begins, a gate has been opened,
// and others may have been too.
func (s *step) surprises() bool { return s.waiting.IsZero() && rank(s.state()) == 0 }

// rank is the order in which a step goes through its states.
func rank(s pipelines.State) int {
	switch s.Name {
	case pipelines.StateInProgress:
		return 1
	case pipelines.StateCompleted:
		return 2
	default:
		return 0
	}
}

// show takes Bitbucket's state of a step. What a runner has reported stays in force until
// Bitbucket shows as much, or has had the time for it.
func (s *step) show(shown builds.Step, begun time.Time) {
	rerun := shown.Run > s.run && s.run > 0
	s.shown, s.run = shown.State, shown.Run
	if rank(s.shown) >= rank(s.reported) || rerun || begun.Sub(s.at) > settle {
		s.reported, s.ours = pipelines.State{}, s.ours && rank(s.shown) == 1
	}
	switch {
	case rank(s.state()) == 0:
		s.running, s.begun = time.Time{}, time.Time{} // it was retried, or is run again
	case s.running.IsZero() && rank(s.shown) == 1:
		s.running = begun
	}
}
