package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/emulator/standin"
)

const shutdownGrace = 5 * time.Second

func serve(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("bitbucket-emulator serve", out)
	var options emulator.Options
	address := flags.String("listen", "127.0.0.1:7990", "`host:port` to listen on")
	flags.StringVar(&options.PublicURL, "public-url", "", "`URL` under which runners and clients reach the emulator (default: the host that each request names)")
	flags.BoolVar(&options.HideStep, "hide-step", false, "show no runner's step, as Bitbucket's public API may do")
	flags.durationVar(&options.AssignLag, "assign-lag", 5*time.Second, 0, "how long a step shows on a runner before the runner learns of it")
	flags.durationVar(&options.OfflineAfter, "offline-after", 90*time.Second, time.Nanosecond, "how long after its last heartbeat a runner becomes OFFLINE")
	flags.intVar(&options.RateLimit, "rate-limit", 1000, -1, "`calls` that a credential may make in a rolling hour; -1: any number")
	flags.durationVar(&options.TokenLifetime, "token-lifetime", 2*time.Hour, time.Nanosecond, "how long an OAuth consumer's token lives")
	flags.intVar(&options.KeepSteps, "keep-steps", 10_000, 1, "`number` of ended steps to remember")
	if err := flags.parse(args); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(*address); err != nil {
		flags.fault("listen: %q, want host:port or :port", *address)
	}
	if options.RateLimit == 0 {
		flags.fault("rate-limit: 0, want 1 or more, or -1 for any number")
	}
	if err := errors.Join(append(flags.faults, options.Validate())...); err != nil {
		return err
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
	flags := newFlags("bitbucket-emulator runner", out)
	config := standin.FromEnvironment(lookup)
	flags.durationVar(&config.Startup, "startup", time.Second, 0, "how long the runner takes to start")
	flags.durationVar(&config.Heartbeat, "heartbeat", 30*time.Second, time.Nanosecond, "time between two heartbeats")
	flags.durationVar(&config.Poll, "poll", time.Second, time.Nanosecond, "time between two looks for a step")
	if err := flags.parse(args); err != nil {
		return err
	}
	if err := errors.Join(append(flags.faults, config.Validate())...); err != nil {
		return err
	}
	return standin.Run(ctx, config, out)
}
