package sidecar

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	starting = runnerv1.RunnerState_RUNNER_STATE_STARTING
	idle     = runnerv1.RunnerState_RUNNER_STATE_IDLE
	busy     = runnerv1.RunnerState_RUNNER_STATE_BUSY
	unknown  = runnerv1.RunnerState_RUNNER_STATE_UNKNOWN
	stopping = runnerv1.RunnerState_RUNNER_STATE_STOPPING
)

// What the lines do not tell is never taken for idleness, and each step is counted.
func TestAccountOfTheRunnersLines(t *testing.T) {
	online := func(a *account) { a.observe(signOnline, "") }
	step := func(uuid string) func(*account) { return func(a *account) { a.observe(signStep, uuid) } }
	completing := func(a *account) { a.observe(signCompleting, "") }
	for name, tc := range map[string]struct {
		happens []func(*account)
		want    report
		warned  int
	}{
		"nothing yet":           {nil, report{state: starting}, 0},
		"online":                {[]func(*account){online}, report{state: idle}, 0},
		"a step":                {[]func(*account){online, step("{a}")}, report{state: busy, step: "{a}", begun: 1}, 0},
		"its end":               {[]func(*account){online, step("{a}"), completing}, report{state: idle, begun: 1}, 0},
		"a second":              {[]func(*account){online, step("{a}"), completing, step("{b}")}, report{state: busy, step: "{b}", begun: 2}, 0},
		"silent":                {[]func(*account){(*account).silent}, report{state: unknown, unrecognized: true}, 1},
		"online after silence":  {[]func(*account){(*account).silent, online}, report{state: idle}, 1},
		"not silent":            {[]func(*account){online, (*account).silent}, report{state: idle}, 0},
		"an end alone":          {[]func(*account){online, completing}, report{state: unknown, unrecognized: true}, 1},
		"and it stays strange":  {[]func(*account){online, completing, online, completing}, report{state: unknown, unrecognized: true}, 1},
		"strange, but it tells": {[]func(*account){online, completing, step("{a}")}, report{state: busy, step: "{a}", begun: 1, unrecognized: true}, 1},
		"strange, its end":      {[]func(*account){online, completing, step("{a}"), completing}, report{state: unknown, begun: 1, unrecognized: true}, 1},
		"told to stop":          {[]func(*account){online, (*account).stop, step("{a}"), online}, report{state: stopping}, 0},
		"silent while it stops": {[]func(*account){(*account).stop, (*account).silent}, report{state: stopping}, 0},
		"torn down":             {[]func(*account){online, (*account).tearDown}, report{state: stopping}, 0},
		"torn down with a step": {[]func(*account){online, step("{a}"), (*account).tearDown}, report{state: busy, step: "{a}", begun: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			core, logged := observer.New(zapcore.WarnLevel)
			a := newAccount(zap.New(core))
			for _, happens := range tc.happens {
				happens(a)
			}
			if diff := cmp.Diff(tc.want, a.reports.now(), cmp.AllowUnexported(report{})); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if logged.Len() != tc.warned {
				t.Errorf("%d warnings, want %d: %v", logged.Len(), tc.warned, logged.All())
			}
		})
	}
}
