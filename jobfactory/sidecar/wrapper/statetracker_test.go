package wrapper

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	starting = runnerv1.RunnerState_RUNNER_STATE_STARTING
	idle     = runnerv1.RunnerState_RUNNER_STATE_IDLE
	busy     = runnerv1.RunnerState_RUNNER_STATE_BUSY
	unknown  = runnerv1.RunnerState_RUNNER_STATE_UNKNOWN
	stopping = runnerv1.RunnerState_RUNNER_STATE_STOPPING
)

// What the lines do not say is never taken for idleness, and each step counts.
func TestTheStateFollowsTheRunnersLines(t *testing.T) {
	online := func(s *stateTracker) { s.observe(announcement{event: eventOnline}) }
	named := func(uuid string) socket.Step { return socket.Step{Repository: "{r}", Pipeline: "{p}", UUID: uuid} }
	step := func(uuid string) func(*stateTracker) {
		return func(s *stateTracker) { s.observe(announcement{event: eventStep, step: named(uuid)}) }
	}
	completing := func(s *stateTracker) { s.observe(announcement{event: eventCompleted, result: "PASSED"}) }
	passed := func(uuid string) socket.EndedStep { return socket.EndedStep{Step: named(uuid), Result: "PASSED"} }
	for name, tc := range map[string]struct {
		happens []func(*stateTracker)
		want    socket.Report
		warned  int
	}{
		"nothing yet":           {nil, socket.Report{State: starting}, 0},
		"online":                {[]func(*stateTracker){online}, socket.Report{State: idle}, 0},
		"a step":                {[]func(*stateTracker){online, step("{a}")}, socket.Report{State: busy, Step: named("{a}"), Begun: 1}, 0},
		"its end":               {[]func(*stateTracker){online, step("{a}"), completing}, socket.Report{State: idle, Ended: passed("{a}"), Begun: 1}, 0},
		"a second":              {[]func(*stateTracker){online, step("{a}"), completing, step("{b}")}, socket.Report{State: busy, Ended: passed("{a}"), Step: named("{b}"), Begun: 2}, 0},
		"silent":                {[]func(*stateTracker){(*stateTracker).silent}, socket.Report{State: unknown, Unrecognized: true}, 1},
		"online after silence":  {[]func(*stateTracker){(*stateTracker).silent, online}, socket.Report{State: idle}, 1},
		"not silent":            {[]func(*stateTracker){online, (*stateTracker).silent}, socket.Report{State: idle}, 0},
		"an end alone":          {[]func(*stateTracker){online, completing}, socket.Report{State: unknown, Unrecognized: true}, 1},
		"and after that":        {[]func(*stateTracker){online, completing, online, completing}, socket.Report{State: unknown, Unrecognized: true}, 1},
		"and then a step":       {[]func(*stateTracker){online, completing, step("{a}")}, socket.Report{State: busy, Step: named("{a}"), Begun: 1, Unrecognized: true}, 1},
		"and then its end":      {[]func(*stateTracker){online, completing, step("{a}"), completing}, socket.Report{State: unknown, Ended: passed("{a}"), Begun: 1, Unrecognized: true}, 1},
		"ordered to stop":       {[]func(*stateTracker){online, (*stateTracker).stop, step("{a}"), online}, socket.Report{State: stopping}, 0},
		"stopped after a step":  {[]func(*stateTracker){online, step("{a}"), completing, (*stateTracker).stop}, socket.Report{State: stopping, Ended: passed("{a}"), Begun: 1}, 0},
		"silent while stopping": {[]func(*stateTracker){(*stateTracker).stop, (*stateTracker).silent}, socket.Report{State: stopping}, 0},
		"terminating":           {[]func(*stateTracker){online, (*stateTracker).terminate}, socket.Report{State: stopping}, 0},
		"terminating and busy":  {[]func(*stateTracker){online, step("{a}"), (*stateTracker).terminate}, socket.Report{State: busy, Step: named("{a}"), Begun: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			core, logged := observer.New(zapcore.WarnLevel)
			s := newStateTracker(zap.New(core))
			for _, happens := range tc.happens {
				happens(s)
			}
			if diff := cmp.Diff(tc.want, s.reports.Latest()); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if logged.Len() != tc.warned {
				t.Errorf("%d warnings, want %d: %v", logged.Len(), tc.warned, logged.All())
			}
		})
	}
}
