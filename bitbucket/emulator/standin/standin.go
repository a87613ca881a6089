package standin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

const (
	// authenticateFor bounds the tries to authenticate.
	authenticateFor   = 2 * time.Minute
	authenticateRetry = time.Second
	// logTime is the format of the real runner's log.
	logTime = "2006-01-02 15:04:05,000"
)

// runner is a running stand-in.
type runner struct {
	config Config
	link   *link
	out    io.Writer

	// step is what it works on until it has been reported; nil when idle.
	step *emulator.Assignment
	// slept ends the step; nil when there is none, or it has ended.
	slept *time.Timer
	// result waits to be reported.
	result *emulator.StepResult
	// trouble is the last failure told, so that each is told once.
	trouble string
}

// Run runs a runner until the context ends, and prints the real one's log lines.
// A step in progress is lost with it. An error is a bad configuration, or a
// runner that cannot authenticate. A runner that has been deleted stays and
// complains: what the real one does is not known, and staying is the harder case
// for whoever cleans up.
func Run(ctx context.Context, config Config, out io.Writer) error {
	if err := config.Validate(); err != nil {
		return err
	}
	l, err := newLink(config)
	if err != nil {
		return err
	}
	defer l.close()
	r := &runner{config: config, link: l, out: out}
	if !sleep(ctx, config.Startup) {
		return nil
	}
	if err := r.authenticate(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	r.log(`Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every %d seconds.`,
		max(1, int(config.Heartbeat/time.Second)))
	r.loop(ctx)
	return nil
}

func (r *runner) log(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, "[%s] %s\n", time.Now().Format(logTime), fmt.Sprintf(format, args...))
}

// complain logs a failure unless it was the last one told.
func (r *runner) complain(err error) {
	if text := err.Error(); text != r.trouble {
		r.trouble = text
		r.log("An error occurred: %s", text)
	}
}

func (r *runner) authenticate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, authenticateFor)
	defer cancel()
	for {
		err := r.link.authenticate(ctx)
		if err == nil {
			r.trouble = ""
			return nil
		}
		r.complain(err)
		if !sleep(ctx, authenticateRetry) {
			return fmt.Errorf("not authenticated within %s: %w", authenticateFor, err)
		}
	}
}

func (r *runner) loop(ctx context.Context) {
	heartbeat := time.NewTicker(r.config.Heartbeat)
	defer heartbeat.Stop()
	poll := time.NewTicker(r.config.Poll)
	defer poll.Stop()
	for {
		r.look(ctx)
		var slept <-chan time.Time
		if r.slept != nil {
			slept = r.slept.C
		}
		select {
		case <-ctx.Done():
			return
		case <-heartbeat.C:
			if err := r.link.heartbeat(ctx); err != nil && ctx.Err() == nil {
				r.complain(err)
			}
		case <-poll.C:
		case <-slept:
			r.slept = nil
			r.log("Completing step with result Result{status=PASSED, error=None}.")
			r.result = &emulator.StepResult{Step: r.step.Step, Status: emulator.ResultPassed}
		}
	}
}

// look reports what there is to report, and looks for a step when idle.
func (r *runner) look(ctx context.Context) {
	if r.result != nil {
		err := r.link.result(ctx, *r.result)
		if err != nil && ctx.Err() == nil {
			r.complain(err)
		}
		// A conflict means that the step was taken off the runner meanwhile.
		if err != nil && !refused(err, http.StatusConflict) {
			return
		}
		r.step, r.result = nil, nil
	}
	if r.step != nil {
		return
	}
	step, ok, err := r.link.step(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		r.complain(err)
	case ok:
		r.begin(step)
	case err == nil:
		r.trouble = ""
	}
}

func (r *runner) begin(step emulator.Assignment) {
	duration, err := time.ParseDuration(step.Duration)
	if err != nil {
		r.complain(fmt.Errorf("step %s: %w", step.Step, err))
		return
	}
	r.log("Getting step StepId{accountUuid=%s, repositoryUuid=%s, pipelineUuid=%s, stepUuid=%s}.",
		step.Account, step.Repository, step.Pipeline, step.Step)
	r.step, r.slept = &step, time.NewTimer(duration)
}

// sleep is false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
