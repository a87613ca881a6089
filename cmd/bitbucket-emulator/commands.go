package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/emulator/place"
	"bitbucket-runner-scaler/bitbucket/emulator/standin"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/flags"
)

const shutdownGrace = 5 * time.Second

func serveCommand(lookup func(string) (string, bool)) *cobra.Command {
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Serve Bitbucket Cloud from memory",
		Long:    "serve emulates Bitbucket Cloud in memory, over HTTP. GET / lists its routes, workspaces and credentials.\n\n" + fromEnvironment,
		Example: "  bitbucket-emulator serve\n  bitbucket-emulator serve --listen :7990 --assign-lag 0s --rate-limit -1",
	}
	set := command.Flags(c, "EMULATOR", lookup)
	var options emulator.Options
	address := set.String("listen", "127.0.0.1:7990", "`host:port` to listen on")
	set.StringVar(&options.PublicURL, "public-url", "", "`URL` at which runners and clients reach the emulator (default: the host of each request)")
	set.Bool(&options.HideStep, "hide-step", "", "omit the steps of runners, as Bitbucket's public API may do")
	set.Duration(&options.AssignLag, "assign-lag", 5*time.Second, 0, "how long a step shows on a runner before the runner receives it")
	set.Duration(&options.OfflineAfter, "offline-after", 90*time.Second, time.Nanosecond, "how long after its last heartbeat a runner becomes OFFLINE")
	set.Int(&options.RateLimit, "rate-limit", 1000, -1, "how many calls per rolling hour a credential may make; -1: no limit")
	set.Duration(&options.TokenLifetime, "token-lifetime", 2*time.Hour, time.Nanosecond, "how long an OAuth consumer's token is valid")
	set.Int(&options.KeepSteps, "keep-steps", 10_000, 1, "how many ended steps to keep")
	repositories := set.String("repositories", "", "`slugs` of more repositories of each workspace, comma separated")
	workspaces := 1
	set.Int(&workspaces, "workspaces", 1, 1, "how many workspaces exist: acme, acme-2, acme-3 and so on, each with the same repositories")
	uncertain(set, &options)
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		set.NoArguments(args)
		if _, _, err := net.SplitHostPort(*address); err != nil {
			set.Fault("--listen: %q, want host:port or :port", *address)
		}
		if options.RateLimit == 0 {
			set.Fault("--rate-limit: 0, want 1 or more, or -1 for no limit")
		}
		options.Workspaces = place.Acmes(workspaces, strings.FieldsFunc(*repositories, func(r rune) bool { return r == ',' })...)
		set.Add(options.Validate())
		if err := set.Err(); err != nil {
			return err
		}
		return serve(c.Context(), *address, options, c.OutOrStdout())
	}
	return c
}

// uncertain adds the flags for what is not known of Bitbucket. Their defaults are what is
// hardest on a client.
func uncertain(set *flags.Set, options *emulator.Options) {
	set.Bool(&options.AddLabels, "add-labels", "", "add self.hosted and linux to registrations that lack them, instead of refusing these")
	set.Bool(&options.RenameOnPut, "rename-on-put", "", "let PUT change the name of a runner, instead of nothing")
	set.Bool(&options.WaitOffline, "wait-offline", "", "let steps wait if their runners are registered, but none is online")
	set.Choice((*string)(&options.StepStages), "step-stages", "", "none", "which pending steps show a stage; an open manual gate always does", "none", "reached", "all")
	set.Duration(&options.ParseLag, "parse-lag", 2*time.Second, 0, "how long a pipeline that is pushed or started is PARSING")
	set.Bool(&options.WebhooksAnywhere, "webhooks-anywhere", "", "deliver to webhooks at other addresses than loopback")
}

func serve(ctx context.Context, address string, options emulator.Options, out io.Writer) error {
	if options.AssignLag == 0 {
		options.AssignLag = -1 // 0 means the default
	}
	if options.ParseLag == 0 {
		options.ParseLag = -1
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
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

func runnerCommand(lookup func(string) (string, bool)) *cobra.Command {
	c := &cobra.Command{
		Use:   "runner",
		Short: "Run a stand-in for Atlassian's runner, with its environment variables",
		Long: "runner stands in for Atlassian's runner: it reads the same environment variables and writes the same log lines.\n" +
			"SIGTERM ends it with the exit code 143, as for the Java program.\n\n" + fromEnvironment,
		Example: "  ACCOUNT_UUID=... RUNNER_UUID=... OAUTH_CLIENT_ID=... OAUTH_CLIENT_SECRET=... OAUTH_TOKEN_ENDPOINT=... \\\n" +
			"    WORKING_DIRECTORY=/tmp bitbucket-emulator runner --startup 0s",
	}
	set := command.Flags(c, "EMULATOR", lookup)
	config := standin.FromEnvironment(lookup)
	set.Duration(&config.Startup, "startup", time.Second, 0, "how long the runner takes to start")
	set.Duration(&config.Heartbeat, "heartbeat", 30*time.Second, time.Nanosecond, "time between two heartbeats")
	set.Duration(&config.Poll, "poll", time.Second, time.Nanosecond, "time between two polls for a step")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		set.NoArguments(args)
		set.Add(config.Validate())
		if err := set.Err(); err != nil {
			return err
		}
		return standin.Run(c.Context(), config, c.OutOrStdout())
	}
	return c
}

const fromEnvironment = "Each flag may be given as an environment variable too: EMULATOR_LISTEN for --listen. Flags win."
