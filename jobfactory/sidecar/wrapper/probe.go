package wrapper

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

// ProbeConfig configures ProbeImage.
type ProbeConfig struct {
	// Command is a runner's entrypoint with its arguments. Required.
	Command []string
	// Run is how long the command runs before it is asked to end. Default 1 min.
	Run time.Duration
	// StopGrace is the time between SIGTERM and SIGKILL. Default 30 s.
	StopGrace time.Duration
	// Output receives what the command writes. Nil discards it.
	Output io.Writer
}

// Validate reports every fault of the configuration at once.
func (c ProbeConfig) Validate() error {
	return errors.Join(validateCommand(c.Command, "the image's entrypoint with its arguments"),
		validateDuration("run", c.Run), validateDuration("stop grace", c.StopGrace))
}

// maxProbeLines bounds the memory that a probe needs for lines.
const maxProbeLines = 1000

// ProbeLine is a line of the runner's log that announces its state.
type ProbeLine struct {
	// Announces is "online", "step" or "completed".
	Announces string `json:"tells"`
	// Step is the step's UUID, if the line has it.
	Step string `json:"step,omitempty"`
	// After is the time since the command's start.
	After time.Duration `json:"after_ns"`
}

// ProbeResult is what a run of a runner's command has shown.
type ProbeResult struct {
	// Path is the command's file.
	Path string `json:"path"`
	// Lines are the known lines in order, the first 1,000 of them.
	Lines []ProbeLine `json:"lines"`
	// Unrecognized is true if the lines contradict each other, so that their format
	// is not the known one.
	Unrecognized bool `json:"unrecognized"`
	// Ran is the time until the command was asked to end, or ended by itself.
	Ran time.Duration `json:"ran_ns"`
	// EndedByItself is true if the command ended before it was asked to.
	EndedByItself bool `json:"ended_by_itself"`
	// Killed is true if the command did not end within StopGrace after SIGTERM.
	Killed bool `json:"killed"`
	// Busy is true if the runner had a step when it was asked to end.
	Busy bool `json:"busy"`
	// Stopping is the time from SIGTERM to the command's end.
	Stopping time.Duration `json:"stopping_ns"`
	// ExitCode is the command's own, or 128 plus the signal that ended it.
	ExitCode int `json:"exit_code"`
}

// eventNames are the values of ProbeLine.Announces.
var eventNames = map[event]string{eventOnline: "online", eventStep: "step", eventCompleted: "completed"}

// ProbeImage runs a runner's command as Exec does, but with this process's own
// environment and without a sidecar, and records the lines that announce its state.
// It sends SIGTERM after Run, once the runner has no step, or as soon as ctx ends.
// Like Exec it reaps every child of this process.
func ProbeImage(ctx context.Context, config ProbeConfig) (ProbeResult, error) {
	if err := config.Validate(); err != nil {
		return ProbeResult{}, err
	}
	if config.Run == 0 {
		config.Run = time.Minute
	}
	if config.StopGrace == 0 {
		config.StopGrace = 30 * time.Second
	}
	path, err := exec.LookPath(config.Command[0])
	if err != nil {
		return ProbeResult{}, fmt.Errorf("find the runner's command: %w", err)
	}
	p := &probe{begun: time.Now(), state: newStateTracker(zap.NewNop()), lines: []ProbeLine{}}
	output := io.Discard
	if config.Output != nil {
		output = &lockedWriter{to: config.Output} // for two streams
	}
	child, err := start(config.Command, output, output, os.Environ(), p.observe, nil)
	if err != nil {
		return ProbeResult{}, err
	}
	result := p.run(ctx, child, config)
	child.finishOutput()
	p.mu.Lock()
	defer p.mu.Unlock()
	result.Path, result.Lines, result.Unrecognized = path, p.lines, p.state.reports.Latest().Unrecognized
	return result, nil
}

// probe is one run of ProbeImage.
type probe struct {
	begun time.Time
	state *stateTracker

	mu    sync.Mutex
	lines []ProbeLine
}

func (p *probe) observe(found announcement) {
	p.state.observe(found)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) < maxProbeLines {
		p.lines = append(p.lines, ProbeLine{Announces: eventNames[found.event], Step: found.step.UUID, After: time.Since(p.begun)})
	}
}

// busyInterval is how often a probe checks whether the step has ended.
const busyInterval = 200 * time.Millisecond

// run waits for the command's end, or ends it when its time is over.
func (p *probe) run(ctx context.Context, child *process, config ProbeConfig) ProbeResult {
	timer := time.NewTimer(config.Run)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case code := <-child.exited:
			return ProbeResult{EndedByItself: true, Ran: time.Since(p.begun), ExitCode: code}
		case <-ctx.Done():
			waiting = false
		case <-timer.C:
			waiting = p.busy()
			timer.Reset(busyInterval)
		}
	}
	asked := time.Now()
	result := ProbeResult{Ran: asked.Sub(p.begun), Busy: p.busy()}
	child.signal(syscall.SIGTERM)
	grace := time.NewTimer(config.StopGrace)
	defer grace.Stop()
	select {
	case result.ExitCode = <-child.exited:
	case <-grace.C:
		result.Killed = true
		child.signal(syscall.SIGKILL)
		result.ExitCode = <-child.exited
	}
	result.Stopping = time.Since(asked)
	return result
}

func (p *probe) busy() bool {
	return p.state.reports.Latest().State == runnerv1.RunnerState_RUNNER_STATE_BUSY
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
