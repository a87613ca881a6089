// Command sidecar runs inside a runner Job: as the native sidecar (run), as its
// startup probe (ready), as process 1 of the runner container (exec) and as that
// container's preStop hook (drain). This package has flags and wiring only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/jobfactory/sidecar"
	"bitbucket-runner-scaler/jobfactory/sidecar/wrapper"
)

// version is set by the linker.
var version = "dev"

const usage = `usage: sidecar COMMAND [flags]

  run       register this pod's runner, report its state, and deregister it on SIGTERM
  exec      exec [flags] -- COMMAND [ARGUMENTS]: fetch the runner's environment and run the runner
  drain     preStop hook of the runner container: return once the runner has ended
  ready     exit 0 once the runner is registered, or the Job has to finish without one
  version   print the version

Each flag can also be given as an environment variable: SIDECAR_DIR for --dir.
`

var errUsage = errors.New("want one of the commands run, exec, drain, ready, version")

func main() {
	code, err := run(context.Background(), os.Args[1:], os.Stdout)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "sidecar:", err)
	}
	os.Exit(code)
}

// run runs one command and returns the process's exit code.
func run(ctx context.Context, args []string, stdout io.Writer) (code int, err error) {
	if len(args) == 0 {
		return 2, fmt.Errorf("no command given, %w\n\n%s", errUsage, usage)
	}
	switch command, args := args[0], args[1:]; command {
	case "run":
		err = register(ctx, args)
	case "exec":
		code, err = execute(ctx, args)
	case "drain":
		err = drain(ctx, args)
	case "ready":
		err = ready(ctx, args)
	case "version", "--version":
		_, err = fmt.Fprintln(stdout, version)
	case "help", "-h", "--help":
		_, err = fmt.Fprint(stdout, usage)
	default:
		return 2, fmt.Errorf("command %q, %w\n\n%s", command, errUsage, usage)
	}
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	if err != nil && code == 0 {
		code = 1
	}
	return code, err
}

// common has the flags of every command.
type common struct {
	*flags.Set
	dir      string
	logLevel string
}

func newCommon(name string) *common {
	c := &common{Set: flags.New("sidecar "+name, "SIDECAR", os.Stderr)}
	c.StringVar(&c.dir, "dir", "/run/bitbucket-runner-scaler", "`folder` that the sidecar and the runner container share")
	c.StringVar(&c.logLevel, "log-level", "info", "`level`: debug, info, warn or error")
	return c
}

// anyDuration leaves the check of a duration to the configuration's Validate.
const anyDuration = math.MinInt64

func (c *common) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.logLevel)
	if err != nil || level > zapcore.ErrorLevel {
		return nil, fmt.Errorf("log-level: %q, want debug, info, warn or error", c.logLevel)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoding), zapcore.Lock(os.Stderr), level)), nil
}

func register(ctx context.Context, args []string) error {
	c := newCommon("run")
	config := sidecar.Config{Version: version}
	c.StringVar(&config.ScalerAddress, "scaler-address", "", "gRPC endpoint of the control plane, `host:port`")
	c.StringVar(&config.TLS, "tls", sidecar.TLSOn, "`on|off`; off is plain HTTP/2: the runner's secret can be read on the network")
	c.StringVar(&config.CAFile, "ca-file", "/var/run/secrets/bitbucket-runner-scaler/ca.crt", "PEM `file` with the authorities that may sign the control plane's certificate")
	c.StringVar(&config.TokenFile, "token-file", "/var/run/secrets/bitbucket-runner-scaler/token", "`file` with the pod's ServiceAccount token")
	if err := c.Read(args); err != nil {
		return err
	}
	c.NoArguments()
	config.Dir = c.dir
	log, faulty := c.logger()
	if err := errors.Join(append(c.Faults, config.Validate(), faulty)...); err != nil {
		return err
	}
	config.Logger = log
	s, err := sidecar.New(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return s.Run(ctx)
}

func execute(ctx context.Context, args []string) (int, error) {
	c := newCommon("exec")
	config := wrapper.Config{Stdout: os.Stdout, Stderr: os.Stderr}
	c.Duration(&config.StopGrace, "stop-grace", 10*time.Second, anyDuration, "time between SIGTERM and SIGKILL when the control plane stops the runner")
	c.Duration(&config.ConnectTimeout, "connect-timeout", 2*time.Minute, anyDuration, "how long to try to reach the sidecar before the runner is started")
	if err := c.Read(args); err != nil {
		return 0, err
	}
	config.Dir, config.Command = c.dir, c.Args()
	log, faulty := c.logger()
	if err := errors.Join(append(c.Faults, config.Validate(), faulty)...); err != nil {
		return 0, err
	}
	config.Logger = log
	return wrapper.Exec(ctx, config)
}

func drain(ctx context.Context, args []string) error {
	c := newCommon("drain")
	var timeout time.Duration
	c.Duration(&timeout, "timeout", 0, 0, "give up after this time; 0 means never: the pod's grace period ends the wait")
	if err := c.Read(args); err != nil {
		return err
	}
	c.NoArguments()
	log, faulty := c.logger()
	if err := errors.Join(append(c.Faults, faulty)...); err != nil {
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return wrapper.Drain(ctx, c.dir, log)
}

func ready(ctx context.Context, args []string) error {
	c := newCommon("ready")
	if err := c.Read(args); err != nil {
		return err
	}
	c.NoArguments()
	if err := errors.Join(c.Faults...); err != nil {
		return err
	}
	return sidecar.Ready(ctx, c.dir)
}
