package standin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/agent"
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

	// step is its step until the result has been reported. It is nil if the runner is
	// idle.
	step *agent.Assignment
	// slept fires when the step ends. It is nil if there is no step or it has ended.
	slept *time.Timer
	// result is the result that has not been reported yet.
	result *agent.Result
	// trouble is the last failure logged, so that it is logged once.
	trouble string
}

// Run runs a runner until the context ends, and prints the real runner's log lines. A step
// in progress is lost when the context ends. Run returns an error if the configuration is
// invalid or the runner cannot authenticate. A runner that was deleted continues and logs
// errors. It is not known what the real runner does, and this is the more difficult case
// for a cleanup.
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

// complain logs a failure unless it was the last one logged.
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
			status := cmp.Or(r.step.Status, agent.Passed)
			r.log("Completing step with result Result{status=%s, error=None}.", status)
			r.result = &agent.Result{Step: r.step.Step, Status: status}
		}
	}
}

// look reports a result, if there is one, and polls for a step if the runner is idle.
func (r *runner) look(ctx context.Context) {
	if r.result != nil {
		err := r.link.result(ctx, *r.result)
		if err != nil && ctx.Err() == nil {
			r.complain(err)
		}
		// A conflict means that the runner no longer has the step.
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

func (r *runner) begin(step agent.Assignment) {
	duration, err := time.ParseDuration(step.Duration)
	if err != nil {
		r.complain(fmt.Errorf("step %s: %w", step.Step, err))
		return
	}
	r.log("Getting step StepId{accountUuid=%s, repositoryUuid=%s, pipelineUuid=%s, stepUuid=%s}.",
		step.Account, step.Repository, step.Pipeline, step.Step)
	r.step, r.slept = &step, time.NewTimer(duration)
}

// sleep returns false if the context ends first.
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
