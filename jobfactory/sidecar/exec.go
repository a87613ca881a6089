package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// ExecConfig is what Exec works with.
type ExecConfig struct {
	// Dir is the folder shared with the sidecar, an absolute path. Required.
	Dir string
	// Command is the runner's entrypoint with its arguments. Required.
	Command []string
	// StopGrace is the time between SIGTERM and SIGKILL when the sidecar has the
	// runner ended. Default 10 s.
	StopGrace time.Duration
	// ConnectTimeout bounds the wait for the sidecar's socket before the runner
	// is started. Default 2 min.
	ConnectTimeout time.Duration
	// Stdout and Stderr take the runner's output, byte for byte.
	Stdout, Stderr *os.File
	// Logger; none discards. Its lines stand between those of the runner, so it
	// should be used sparingly.
	Logger *zap.Logger
}

// Validate reports every fault of the configuration at once.
func (c ExecConfig) Validate() error {
	faults := []error{validateDir(c.Dir)}
	if len(c.Command) == 0 {
		faults = append(faults, errors.New("command: none given, want: exec [flags] -- COMMAND [ARGUMENTS]"))
	}
	if c.StopGrace < 0 {
		faults = append(faults, fmt.Errorf("stop-grace: %s, want a positive duration", c.StopGrace))
	}
	if c.ConnectTimeout < 0 {
		faults = append(faults, fmt.Errorf("connect-timeout: %s, want a positive duration", c.ConnectTimeout))
	}
	return errors.Join(faults...)
}

func (c ExecConfig) withDefaults() ExecConfig {
	if c.StopGrace == 0 {
		c.StopGrace = 10 * time.Second
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 2 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// ErrRefused says that the environment went to somebody else.
var ErrRefused = errors.New("the sidecar refuses the runner's environment")

// forwarded are the signals that are passed on to the runner's process group.
var forwarded = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// lastWords bounds the wait for the runner's end to be told to the sidecar.
const lastWords = 2 * time.Second

// signalWait bounds the wait for the kubelet's signal once the runner of a deleted
// pod has ended. The kubelet sends it when the preStop hook has returned; the end of
// process 1 before that would kill the hook, which is told as a fault of it, and
// containerd then fails at times to see the container's end until its grace is over.
const signalWait = 5 * time.Second

// failure is exec's own exit code where it could not start the runner.
const failure = 1

// Exec fetches the environment from the sidecar, runs the command with it as
// process 1 of the container would, and returns the exit code for the container:
// the command's own, 128 plus the signal that ended it, or 0 where the sidecar
// had it ended or wants none started. It takes over the process: it handles
// signals and reaps every child, so nothing else may start processes beside it.
// The end of ctx ends the wait for an environment, never a runner.
func Exec(ctx context.Context, config ExecConfig) (exitCode int, err error) {
	if err := config.Validate(); err != nil {
		return failure, err
	}
	config = config.withDefaults()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	// A reader of our output that goes away must not end a build.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	link, answer, caught, err := fetchOrSignal(ctx, config, signals)
	switch {
	case caught != nil:
		return 128 + int(caught.(syscall.Signal)), nil
	case err != nil:
		return failure, err
	case answer.Type == typeFinish:
		config.Logger.Info("nothing to run", zap.String("reason", answer.Reason))
		return 0, nil
	case answer.Type != typeEnvironment:
		return failure, fmt.Errorf("%w: %s", ErrRefused, answer.Reason)
	}
	e := executor{config: config, log: config.Logger, account: newAccount(config.Logger), stop: make(chan message, 1), ended: make(chan int, 1)}
	child, err := start(config.Command, config.Stdout, config.Stderr, merge(os.Environ(), answer.Environment), e.account.observe)
	// Best effort: the only copy that is left is the runner's own.
	clear(answer.Environment)
	runtime.GC()
	if err != nil {
		link.close()
		return failure, err
	}
	return e.run(ctx, child, link, signals), nil
}

// fetchOrSignal fetches the environment unless a signal comes first.
func fetchOrSignal(ctx context.Context, config ExecConfig, signals <-chan os.Signal) (w *wire, answer message, caught os.Signal, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w, answer, err = fetch(ctx, config)
	}()
	select {
	case <-done:
	case caught = <-signals:
		cancel()
		<-done
		if w != nil {
			w.close()
		}
	}
	return w, answer, caught, err
}

// fetch asks the sidecar for the environment until it answers. Only the time
// without a connection is bounded: with one, the sidecar is at work.
func fetch(ctx context.Context, config ExecConfig) (*wire, message, error) {
	wait := backoff{base: 50 * time.Millisecond, maximum: time.Second}
	lost := time.Now()
	for {
		w, answer, err := ask(ctx, config.Dir)
		if err == nil {
			return w, answer, nil
		}
		if w != nil {
			w.close()
			lost = time.Now()
		}
		if time.Since(lost) > config.ConnectTimeout {
			return nil, message{}, fmt.Errorf("no sidecar for %s: %w", config.ConnectTimeout, err)
		}
		if !pause(ctx, wait.next()) {
			return nil, message{}, ctx.Err()
		}
	}
}

// ask makes one try; with an error it returns the connection if there was one.
func ask(ctx context.Context, dir string) (*wire, message, error) {
	w, err := dialWire(ctx, dir)
	if err != nil {
		return nil, message{}, err
	}
	defer context.AfterFunc(ctx, w.close)()
	if err := w.send(message{Type: typeFetch}); err != nil {
		return w, message{}, err
	}
	answer, err := w.receive()
	return w, answer, err
}

// executor looks after a running runner.
type executor struct {
	config  ExecConfig
	log     *zap.Logger
	account *account
	// stop gets the sidecar's order to end the runner.
	stop chan message
	// ended gets the runner's exit code.
	ended chan int
}

// run looks after the runner to its end and returns the exit code.
func (e *executor) run(ctx context.Context, child *process, w *wire, signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		e.talk(ctx, w)
	}()
	code, awaited := e.tend(child, signals)
	timer := time.AfterFunc(lastWords, cancel)
	defer timer.Stop()
	<-told
	if awaited {
		select {
		case <-signals:
		case <-time.After(signalWait):
		}
	}
	return code
}

// tend passes signals and orders on until the runner has ended. It returns the exit
// code, and whether the kubelet's signal is still to come.
func (e *executor) tend(child *process, signals <-chan os.Signal) (code int, awaited bool) {
	silent := time.AfterFunc(silence, e.account.silent)
	defer silent.Stop()
	var kill <-chan time.Time
	stopped, signalled := false, false
	for {
		select {
		case caught := <-signals:
			if caught == syscall.SIGTERM || caught == syscall.SIGINT {
				signalled = true
				e.account.tearDown()
			}
			child.signal(caught.(syscall.Signal))
		case order := <-e.stop:
			if stopped {
				continue
			}
			stopped, awaited = true, order.Terminating
			e.log.Info("ending the runner", zap.String("reason", order.Reason))
			e.account.stop()
			child.signal(syscall.SIGTERM)
			timer := time.NewTimer(e.config.StopGrace)
			defer timer.Stop()
			kill = timer.C
		case <-kill:
			kill = nil
			e.log.Warn("the runner did not end in time and is killed", zap.Duration("grace", e.config.StopGrace))
			child.signal(syscall.SIGKILL)
		case code := <-child.exited:
			child.finishOutput()
			e.ended <- code
			if stopped {
				return 0, awaited && !signalled
			}
			return code, false
		}
	}
}
