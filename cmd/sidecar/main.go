// Command sidecar runs inside a runner Job: as native sidecar (run), as process 1 of the
// runner container (exec), as startup probe (ready), and as preStop hook (drain). This
// package only defines flags and wires the parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
	"bitbucket-runner-scaler/jobfactory/sidecar"
	"bitbucket-runner-scaler/jobfactory/sidecar/wrapper"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// lookup finds an environment variable.
type lookup = func(name string) (value string, ok bool)

// subcommand is a command of the sidecar. define adds its flags and returns the function
// that does the work after they are parsed.
type subcommand struct {
	name, about, arguments string
	define                 func(f *common) func(ctx context.Context) error
}

// subcommands lists the commands. about begins with a lower-case letter, because it
// follows the command's name.
var subcommands = []subcommand{
	{"run", "register this pod's runner, follow it, and deregister it on SIGTERM", "", register},
	{"exec", "run the runner with the environment of its registration; exits with its exit code", " -- COMMAND [ARGUMENTS]", execute},
	{"drain", "preStop hook of the runner container: return once the runner has finished its step and ended", "", drain},
	{"ready", "startup probe: exit 0 once the runner is registered, or the Job was ordered to finish", "", ready},
}

func usage() string {
	var text strings.Builder
	text.WriteString("Usage: sidecar COMMAND [flags]\n\n")
	for _, c := range subcommands {
		_, _ = fmt.Fprintf(&text, "  %-9s %s\n", c.name, c.about)
	}
	text.WriteString(`  version   print the version
  help      print this text

"sidecar COMMAND --help" lists the flags. Each flag may be given as an environment
variable too: SIDECAR_DIR for --dir. Flags win. Exit codes: 0 success, 1 failure,
2 wrong command line.

Examples:
  sidecar run --scaler-address bitbucket-runner-scaler.bitbucket-runner-scaler.svc:9090
  sidecar exec -- /opt/atlassian/pipelines/runner/entrypoint.sh
`)
	return text.String()
}

// run executes one command and returns the process's exit code.
func run(ctx context.Context, args []string, lookup lookup, stdout, stderr io.Writer) int {
	name := "sidecar"
	if len(args) > 0 && slices.ContainsFunc(subcommands, func(c subcommand) bool { return c.name == args[0] }) {
		name += " " + args[0]
	}
	return exit.Report(stderr, "sidecar", name, dispatch(ctx, args, lookup, stdout))
}

func dispatch(ctx context.Context, args []string, lookup lookup, stdout io.Writer) error {
	names := make([]string, 0, len(subcommands)+2)
	for _, c := range subcommands {
		if len(args) > 0 && args[0] == c.name {
			return c.run(ctx, args[1:], lookup, stdout)
		}
		names = append(names, c.name)
	}
	names = append(names, "version", "help")
	if len(args) == 0 {
		return exit.Usage(fmt.Errorf("no command given, want %s", flags.List(names)))
	}
	switch args[0] {
	case "version", "--version":
		_, err := fmt.Fprintln(stdout, version)
		return err
	case "help", "-h", "--help":
		_, err := io.WriteString(stdout, usage())
		return err
	}
	if meant := spelling.Nearest(args[0], names); meant != "" {
		return exit.Usage(fmt.Errorf("unknown command %q, did you mean %s?", args[0], meant))
	}
	return exit.Usage(fmt.Errorf("unknown command %q, want %s", args[0], flags.List(names)))
}

func (c subcommand) run(ctx context.Context, args []string, lookup lookup, stdout io.Writer) error {
	set := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	set.SetOutput(stdout)
	set.SetInterspersed(c.arguments == "") // flags after exec's command belong to that command
	f := &common{Set: flags.New(set, "SIDECAR", lookup)}
	f.StringVar(&f.dir, "dir", "/run/bitbucket-runner-scaler", "`folder` that sidecar and runner container share")
	f.Choice(&f.logLevel, "log-level", "", "info", "lowest level that is logged", "debug", "info", "warn", "error")
	do := c.define(f)
	set.Usage = func() {
		_, _ = fmt.Fprintf(stdout, "Usage: sidecar %s [flags]%s\n\n%s\n\n%s", c.name, c.arguments, c.about, set.FlagUsages())
	}
	if err := set.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return flags.Explain(set, err)
	}
	f.Read()
	if c.arguments == "" {
		f.NoArguments(f.Args())
	}
	return do(ctx)
}

// common are the flags of every command.
type common struct {
	*flags.Set
	dir, logLevel string
}

func (f *common) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(f.logLevel)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoding), zapcore.Lock(os.Stderr), level)), nil
}

// anyDuration is the lower bound of a duration that the configuration itself checks.
const anyDuration = math.MinInt64

func register(f *common) func(context.Context) error {
	config := sidecar.Config{Version: version}
	f.StringVar(&config.ScalerAddress, "scaler-address", "", "gRPC endpoint of the control plane, `host:port`")
	f.StringVar(&config.TLS, "tls", sidecar.TLSOn, "how to connect, `on|off`; off: plain HTTP/2, which shows the runner's secret to the network")
	f.StringVar(&config.CAFile, "ca-file", "/var/run/secrets/bitbucket-runner-scaler/ca.crt", "PEM `file` with the authorities that may issue the control plane's certificate")
	f.StringVar(&config.TokenFile, "token-file", "/var/run/secrets/bitbucket-runner-scaler/token", "`file` with the pod's ServiceAccount token")
	return func(ctx context.Context) error {
		config.Dir = f.dir
		log, faulty := f.logger()
		f.Add(config.Validate(), faulty)
		if err := f.Err(); err != nil {
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
}

func execute(f *common) func(context.Context) error {
	config := wrapper.Config{Stdout: os.Stdout, Stderr: os.Stderr}
	f.Duration(&config.StopGrace, "stop-grace", 10*time.Second, anyDuration, "time between SIGTERM and SIGKILL when the runner is stopped")
	f.Duration(&config.ConnectTimeout, "connect-timeout", 2*time.Minute, anyDuration, "time to wait for the sidecar before the runner starts")
	return func(ctx context.Context) error {
		config.Dir, config.Command = f.dir, f.Args()
		log, faulty := f.logger()
		f.Add(config.Validate(), faulty)
		if err := f.Err(); err != nil {
			return err
		}
		config.Logger = log
		code, err := wrapper.Exec(ctx, config)
		if code == 0 {
			return err
		}
		return &exit.Error{Code: code, Err: err}
	}
}

func drain(f *common) func(context.Context) error {
	var timeout time.Duration
	f.Duration(&timeout, "timeout", 0, 0, "stop waiting after this time; 0: never, so that the pod's grace period ends the wait")
	return func(ctx context.Context) error {
		log, faulty := f.logger()
		f.Add(faulty)
		if err := f.Err(); err != nil {
			return err
		}
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return wrapper.Drain(ctx, f.dir, log)
	}
}

func ready(f *common) func(context.Context) error {
	var wait time.Duration
	// Probes in manifests of earlier versions have a timeout of 5 s.
	f.Duration(&wait, "wait", 4*time.Second, 0, "wait for the registration for this time before the probe fails; shorter than the probe's timeout")
	return func(ctx context.Context) error {
		if err := f.Err(); err != nil {
			return err
		}
		return sidecar.Ready(ctx, f.dir, wait)
	}
}
