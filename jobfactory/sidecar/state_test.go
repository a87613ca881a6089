package sidecar

import (
	"testing"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestOnlyTheNewestConnectionOfExecCounts(t *testing.T) {
	busy := socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_BUSY, Begun: 1}
	s := newState(t.TempDir())
	first := s.connect()
	second := s.connect()
	s.report(second, busy)
	s.report(first, socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE})
	s.disconnect(first)
	if got := s.reports.Latest(); got != busy || !s.get().connected {
		t.Errorf("report %+v, connected %v; want those of the newest connection", got, s.get().connected)
	}
	s.disconnect(second)
	if got := s.reports.Latest(); got.State != runnerv1.RunnerState_RUNNER_STATE_UNKNOWN || got.Begun != 1 || s.get().connected {
		t.Errorf("report %+v, connected %v; want an unknown state and the number of steps", got, s.get().connected)
	}
}

func TestNothingIsReportedAfterTheEnd(t *testing.T) {
	s := newState(t.TempDir())
	exec := s.connect()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.report(exec, socket.Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE})
	s.disconnect(exec)
	if got := s.reports.Latest().State; got != runnerv1.RunnerState_RUNNER_STATE_ENDED {
		t.Errorf("state %s, want ENDED", got)
	}
}
