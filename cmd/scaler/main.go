// Command scaler is the control plane. It answers KEDA's ExternalScaler calls, registers
// runners for the sidecars of runner Jobs, and removes surplus and orphaned runners. This
// package only wires them.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	// The image has no root certificates.
	_ "golang.org/x/crypto/x509roots/fallback"

	"bitbucket-runner-scaler/cmd/internal/command"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.LookupEnv, serveLogged, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes the command line with serve, and returns the exit code.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), serve func(context.Context, config) error, stdout, stderr io.Writer) int {
	root := newCommand(lookup, serve)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return command.Run(ctx, root, args)
}

func serveLogged(ctx context.Context, c config) error {
	log, err := c.logger()
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // some systems cannot sync stderr
	saveMemory(c.lookup)
	limitMemory(memoryMax, c.lookup, log)
	return serve(ctx, c, log)
}
