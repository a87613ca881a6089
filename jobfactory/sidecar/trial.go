package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// TrialConfig is what Try works with.
type TrialConfig struct {
	// Command is a runner's entrypoint with its arguments. Required.
	Command []string
	// Run is how long it runs before it is asked to end. Default 1 min.
	Run time.Duration
	// StopGrace is the time between SIGTERM and SIGKILL. Default 30 s.
	StopGrace time.Duration
	// Output takes what the command writes. May be nil.
	Output io.Writer
}

// Validate reports every fault at once.
func (c TrialConfig) Validate() error {
	var faults []error
	if len(c.Command) == 0 {
		faults = append(faults, errors.New("command: none given, want the image's entrypoint with its arguments"))
	}
	if c.Run < 0 {
		faults = append(faults, fmt.Errorf("run: %s, want a positive duration", c.Run))
	}
	if c.StopGrace < 0 {
		faults = append(faults, fmt.Errorf("stop grace: %s, want a positive duration", c.StopGrace))
	}
	return errors.Join(faults...)
}

// maxTrialLines bounds the memory of a trial of a talkative runner.
const maxTrialLines = 1000

// TrialLine is a line of the runner's log that tells its state.
type TrialLine struct {
	// Tells is "online", "step" or "completed".
	Tells string `json:"tells"`
	// Step is the step's UUID, where the line has it.
	Step string `json:"step,omitempty"`
	// After is the time since the command's start.
	After time.Duration `json:"after_ns"`
}

// Trial is what a run of a runner's command has shown.
type Trial struct {
	// Path is the command's file.
	Path string `json:"path"`
	// Lines are those that are known, in order, the first 1,000 of them.
	Lines []TrialLine `json:"lines"`
	// Unrecognized is true where the lines tell what cannot be: their format is not
	// the known one.
	Unrecognized bool `json:"unrecognized"`
	// Ran is the time until it was asked to end, or ended by itself.
	Ran time.Duration `json:"ran_ns"`
	// Itself is true where it ended before it was asked to.
	Itself bool `json:"ended_by_itself"`
	// Killed is true where it did not end within StopGrace of SIGTERM, Busy where it
	// had a step then.
	Killed bool `json:"killed"`
	Busy   bool `json:"busy"`
	// Stopping is the time from SIGTERM to its end.
	Stopping time.Duration `json:"stopping_ns"`
	// ExitCode is its own, or 128 plus the signal that ended it.
	ExitCode int `json:"exit_code"`
}

// signNames are how a trial calls what the lines tell.
var signNames = map[sign]string{signOnline: "online", signStep: "step", signCompleting: "completed"}

// Try runs a runner's command as Exec would, with this process's environment and
// without a sidecar, notes the lines that tell its state, and asks it to end by
// SIGTERM: after Run, though not while it has a step, or at once as ctx ends. Like
// Exec it reaps every child of this process.
func Try(ctx context.Context, config TrialConfig) (Trial, error) {
	if err := config.Validate(); err != nil {
		return Trial{}, err
	}
	if config.Run == 0 {
		config.Run = time.Minute
	}
	if config.StopGrace == 0 {
		config.StopGrace = 30 * time.Second
	}
	path, err := exec.LookPath(config.Command[0])
	if err != nil {
		return Trial{}, fmt.Errorf("find the runner's command: %w", err)
	}
	t := &trial{begun: time.Now(), account: newAccount(zap.NewNop()), shown: Trial{Path: path, Lines: []TrialLine{}}}
	output := io.Discard
	if config.Output != nil {
		output = &lockedWriter{to: config.Output} // two streams go into it
	}
	child, err := start(config.Command, output, output, os.Environ(), t.observe)
	if err != nil {
		return Trial{}, err
	}
	t.follow(ctx, child, config)
	child.finishOutput()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shown.Unrecognized = t.account.reports.now().unrecognized
	return t.shown, nil
}

// trial follows a run.
type trial struct {
	begun   time.Time
	account *account

	mu    sync.Mutex
	shown Trial
}

func (t *trial) observe(found sign, step string) {
	t.account.observe(found, step)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.shown.Lines) < maxTrialLines {
		t.shown.Lines = append(t.shown.Lines, TrialLine{Tells: signNames[found], Step: step, After: time.Since(t.begun)})
	}
}

// busyLook is how often it is looked whether a step has ended.
const busyLook = 200 * time.Millisecond

// follow waits for the run's end, and brings it about.
func (t *trial) follow(ctx context.Context, child *process, config TrialConfig) {
	timer := time.NewTimer(config.Run)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case code := <-child.exited:
			t.end(Trial{Itself: true, Ran: time.Since(t.begun), ExitCode: code})
			return
		case <-ctx.Done():
			waiting = false
		case <-timer.C:
			waiting = t.busy()
			timer.Reset(busyLook)
		}
	}
	asked := time.Now()
	ended := Trial{Ran: asked.Sub(t.begun), Busy: t.busy()}
	child.signal(syscall.SIGTERM)
	grace := time.NewTimer(config.StopGrace)
	defer grace.Stop()
	select {
	case ended.ExitCode = <-child.exited:
	case <-grace.C:
		ended.Killed = true
		child.signal(syscall.SIGKILL)
		ended.ExitCode = <-child.exited
	}
	ended.Stopping = time.Since(asked)
	t.end(ended)
}

func (t *trial) busy() bool {
	return t.account.reports.now().state == runnerv1.RunnerState_RUNNER_STATE_BUSY
}

func (t *trial) end(ended Trial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ended.Path, ended.Lines = t.shown.Path, t.shown.Lines
	t.shown = ended
}

// lockedWriter lets two streams share a writer.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

// Write implements io.Writer.
func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
