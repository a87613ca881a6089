package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/peterbourgon/ff/v3"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/emulator/standin"
)

const (
	envPrefix     = "EMULATOR"
	shutdownGrace = 5 * time.Second
)

func parse(flags *flag.FlagSet, args []string, out io.Writer) error {
	flags.SetOutput(out)
	if err := ff.Parse(flags, args, ff.WithEnvVarPrefix(envPrefix)); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("arguments: %q, want none, only flags", flags.Args())
	}
	return nil
}

func serve(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bitbucket-emulator serve", flag.ContinueOnError)
	var options emulator.Options
	address := flags.String("listen", "127.0.0.1:7990", "`host:port` to listen on")
	flags.StringVar(&options.PublicURL, "public-url", "", "`URL` under which runners and clients reach the emulator (default: the host that each request names)")
	flags.BoolVar(&options.HideStep, "hide-step", false, "show no runner's step, as Bitbucket's public API may do")
	flags.DurationVar(&options.AssignLag, "assign-lag", 5*time.Second, "how long a step shows on a runner before the runner learns of it")
	flags.DurationVar(&options.OfflineAfter, "offline-after", 90*time.Second, "how long after its last heartbeat a runner becomes OFFLINE")
	flags.IntVar(&options.RateLimit, "rate-limit", 1000, "`calls` that a credential may make in a rolling hour; -1: any number")
	flags.DurationVar(&options.TokenLifetime, "token-lifetime", 2*time.Hour, "how long an OAuth consumer's token lives")
	flags.IntVar(&options.KeepSteps, "keep-steps", 10_000, "`number` of ended steps to remember")
	if err := parse(flags, args, out); err != nil {
		return err
	}
	faults := options.Validate()
	if options.RateLimit == 0 {
		faults = errors.Join(faults, errors.New("rate-limit: 0, want 1 or more, or -1 for any number"))
	}
	if faults != nil {
		return faults
	}
	if options.AssignLag == 0 {
		options.AssignLag = -1 // to the emulator, 0 is the default
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", *address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	_, _ = fmt.Fprintf(out, "Bitbucket emulator listens on http://%s\n", listener.Addr())
	return serveOn(ctx, listener, emulator.New(options))
}

func serveOn(ctx context.Context, listener net.Listener, handler *emulator.Server) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	handler.Close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

func runRunner(ctx context.Context, args []string, lookup func(string) (string, bool), out io.Writer) error {
	flags := flag.NewFlagSet("bitbucket-emulator runner", flag.ContinueOnError)
	config := standin.FromEnvironment(lookup)
	flags.DurationVar(&config.Startup, "startup", time.Second, "how long the runner takes to start")
	flags.DurationVar(&config.Heartbeat, "heartbeat", 30*time.Second, "time between two heartbeats")
	flags.DurationVar(&config.Poll, "poll", time.Second, "time between two looks for a step")
	if err := parse(flags, args, out); err != nil {
		return err
	}
	return standin.Run(ctx, config, out)
}
