package sidecar

import (
	"sync"
	"time"

	"go.uber.org/zap"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// silence is how long a runner may take until its lines tell anything: Atlassian's
// is online within a minute, and one that is not by now is of no use.
const silence = 5 * time.Minute

// account keeps what the runner's lines have told so far, as exec reports it. Safe
// for concurrent use.
type account struct {
	reports *reports
	log     *zap.Logger

	mu sync.Mutex
	// heard is true once a line told anything.
	heard bool
	// mute is true while no line has told anything for too long.
	mute bool
	// strange is true once a line told what cannot be, if the lines before it told all.
	strange bool
	// stopping is true once the runner is to end, whatever its lines tell.
	stopping bool
	// said is true once the user was told that the lines are not understood.
	said  bool
	begun uint32
}

func newAccount(log *zap.Logger) *account {
	return &account{reports: newReports(report{state: runnerv1.RunnerState_RUNNER_STATE_STARTING}), log: log}
}

// observe takes what a line tells.
func (a *account) observe(found sign, step string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard, a.mute = true, false
	switch {
	case a.stopping:
	case found == signStep:
		a.begun++
		a.put(runnerv1.RunnerState_RUNNER_STATE_BUSY, step)
	case found == signCompleting && a.reports.now().state != runnerv1.RunnerState_RUNNER_STATE_BUSY:
		a.strange = true
		a.misread("the end of a step whose beginning they did not tell")
	case a.strange:
		a.put(runnerv1.RunnerState_RUNNER_STATE_UNKNOWN, "")
	default:
		a.put(runnerv1.RunnerState_RUNNER_STATE_IDLE, "")
	}
}

// silent is called once the lines should have told something.
func (a *account) silent() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.heard && !a.stopping {
		a.mute = true
		a.misread("nothing")
	}
}

// misread says that the lines are not understood: what they do not tell must not be
// taken for idleness. Called locked.
func (a *account) misread(told string) {
	if !a.said {
		a.said = true
		a.log.Warn("the runner's log lines are of a format that is not known: whether it has a step, only Bitbucket tells", zap.String("told", told))
	}
	a.put(runnerv1.RunnerState_RUNNER_STATE_UNKNOWN, "")
}

// stop notes that the runner is being ended.
func (a *account) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopping = true
	a.put(runnerv1.RunnerState_RUNNER_STATE_STOPPING, "")
}

// tearDown notes that a signal is about to end the runner, unless it has a step:
// that may go on, and busy is the truth until its end.
func (a *account) tearDown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopping && a.reports.now().state != runnerv1.RunnerState_RUNNER_STATE_BUSY {
		a.put(runnerv1.RunnerState_RUNNER_STATE_STOPPING, "")
	}
}

func (a *account) put(state runnerv1.RunnerState, step string) {
	a.reports.put(report{state: state, step: step, begun: a.begun, unrecognized: a.strange || a.mute})
}
