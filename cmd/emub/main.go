// Command bitbucket-emulator is Bitbucket Cloud for tests and demos: `serve` runs
// the emulator, `runner` stands in for Atlassian's runner container.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/peterbourgon/ff/v3"

	"bitbucket-runner-scaler/bitbucket/emulatorb"
)

const usage = `usage: bitbucket-emulator serve [flags]    run the emulator; -h lists the flags
       bitbucket-emulator runner [flags]   stand in for Atlassian's runner, from its environment
`

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bitbucket-emulator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "serve":
			return ignoreHelp(serve(ctx, args[1:], out))
		case "runner":
			return ignoreHelp(runner(ctx, args[1:], out))
		case "help", "-h", "--help":
			_, err := io.WriteString(out, usage)
			return err
		}
	}
	return fmt.Errorf("arguments: %q, want serve or runner\n%s", args, usage)
}

func ignoreHelp(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

func serve(ctx context.Context, args []string, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(out)
	listen := flags.String("listen", "127.0.0.1:7990", "`address`")
	var o emulator.Options
	flags.BoolVar(&o.HideStep, "hide-step", false, "lists do not show which runner has a step")
	flags.DurationVar(&o.AssignLag, "assign-lag", 5*time.Second, "how long a step may show on a runner before the runner learns of it")
	flags.DurationVar(&o.OfflineAfter, "offline-after", 90*time.Second, "silence after which a runner is OFFLINE")
	flags.IntVar(&o.RateLimit, "rate-limit", 1000, "`calls` an hour and identity")
	flags.DurationVar(&o.TokenLifetime, "token-lifetime", 2*time.Hour, "lifetime of OAuth tokens")
	flags.StringVar(&o.PublicURL, "public-url", "", "`URL` where runners reach the emulator (default: as the caller wrote it)")
	if err := ff.Parse(flags, args, ff.WithEnvVarPrefix("EMULATOR")); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	e := emulator.New(o)
	defer e.Close()
	server := &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	_, _ = fmt.Fprintf(out, "bitbucket-emulator serves http://%s\n", listener.Addr())
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = server.Shutdown(ctx) // what is still open is cut
	return nil
}

// runner keeps SIGTERM's default: it dies at once, as the real one may.
func runner(ctx context.Context, args []string, out io.Writer) error {
	r, err := emulator.NewRunner(os.LookupEnv, out)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("runner", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.DurationVar(&r.Startup, "startup", r.Startup, "how long it takes to come online")
	flags.DurationVar(&r.PollInterval, "poll-interval", r.PollInterval, "time between two questions for a step")
	if err := ff.Parse(flags, args, ff.WithEnvVarPrefix("EMULATOR_RUNNER")); err != nil {
		return err
	}
	return r.Run(ctx)
}
