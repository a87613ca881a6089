package wrapper

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

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// Config configures Exec.
type Config struct {
	// Dir is the folder shared with the sidecar, an absolute path. Required.
	Dir string
	// Command is the runner's entrypoint with its arguments. Required.
	Command []string
	// StopGrace is the time between SIGTERM and SIGKILL when the sidecar orders the
	// runner to stop. Default 10 s.
	StopGrace time.Duration
	// ConnectTimeout bounds the time without a connection to the sidecar before the
	// runner is started. Default 2 min.
	ConnectTimeout time.Duration
	// Stdout and Stderr receive the runner's output, byte for byte.
	Stdout, Stderr *os.File
	// Logger receives few lines, because they appear between those of the runner.
	// Nil discards them.
	Logger *zap.Logger
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	return errors.Join(socket.ValidateDir(c.Dir),
		validateCommand(c.Command, "exec [flags] -- COMMAND [ARGUMENTS]"),
		validateDuration("stop-grace", c.StopGrace), validateDuration("connect-timeout", c.ConnectTimeout))
}

func validateCommand(command []string, want string) error {
	if len(command) == 0 {
		return errors.New("command: none given, want " + want)
	}
	return nil
}

func validateDuration(name string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s: %s, want a positive duration", name, d)
	}
	return nil
}

func (c Config) withDefaults() Config {
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

// ErrRefused means that the sidecar does not give the environment to this process,
// because another process has it.
var ErrRefused = errors.New("the sidecar refuses the runner's environment")

// forwarded are the signals that Exec passes on to the runner's process group.
var forwarded = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// failure is Exec's exit code if it cannot start the runner.
const failure = 1

// Exec fetches the environment from the sidecar, runs the command with it and
// returns the exit code for the container: the command's own, 128 plus the signal
// that ended it, or 0 if the sidecar stopped the runner or wanted none. The end of
// ctx ends the wait for an environment, but never a runner.
//
// Exec takes over the process: it handles signals and reaps every child, so
// nothing else may start processes.
func Exec(ctx context.Context, config Config) (exitCode int, err error) {
	if err := config.Validate(); err != nil {
		return failure, err
	}
	config = config.withDefaults()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	// A reader of the output that goes away must not end a build.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, answer, caught, err := fetchOrSignal(ctx, config, signals)
	switch {
	case caught != nil:
		return 128 + int(caught.(syscall.Signal)), nil
	case err != nil:
		return failure, err
	case answer.Type == socket.TypeFinish:
		config.Logger.Info("no runner to start", zap.String("reason", answer.Reason))
		return 0, nil
	case answer.Type != socket.TypeEnvironment:
		return failure, fmt.Errorf("%w: %s", ErrRefused, answer.Reason)
	}
	environment := merge(os.Environ(), answer.Environment)
	e := &executor{config: config, log: config.Logger, state: newStateTracker(config.Logger), last: newLastLine(environment), stop: make(chan socket.Message, 1), ended: make(chan int, 1)}
	child, err := start(config.Command, config.Stdout, config.Stderr, environment, e.state.observe, e.last.keep)
	// Best effort: after this only the runner itself should hold the secret.
	clear(answer.Environment)
	clear(environment)
	runtime.GC()
	if err != nil {
		conn.Close()
		return failure, err
	}
	return e.run(ctx, child, conn, signals), nil
}

// fetchOrSignal fetches the environment unless a signal comes first.
func fetchOrSignal(ctx context.Context, config Config, signals <-chan os.Signal) (conn *socket.Conn, answer socket.Message, caught os.Signal, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, answer, err = fetch(ctx, config)
	}()
	select {
	case <-done:
	case caught = <-signals:
		cancel()
		<-done
		if conn != nil {
			conn.Close()
		}
	}
	return conn, answer, caught, err
}

// fetch asks the sidecar for the environment until the sidecar answers. Only the
// time without a connection is bounded: while there is one, the sidecar is at work.
func fetch(ctx context.Context, config Config) (*socket.Conn, socket.Message, error) {
	wait := socket.Backoff{Base: 50 * time.Millisecond, Maximum: time.Second}
	lost := time.Now()
	for {
		conn, err := socket.Dial(ctx, config.Dir)
		if err == nil {
			var answer socket.Message
			if answer, err = conn.Ask(ctx, socket.Message{Type: socket.TypeFetch}); err == nil {
				return conn, answer, nil
			}
			conn.Close()
			lost = time.Now()
		}
		if time.Since(lost) > config.ConnectTimeout {
			return nil, socket.Message{}, fmt.Errorf("no sidecar for %s: %w", config.ConnectTimeout, err)
		}
		if !wait.Sleep(ctx) {
			return nil, socket.Message{}, ctx.Err()
		}
	}
}
