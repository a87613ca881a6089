// Command bitbucket-emulator emulates Bitbucket Cloud for tests and demos. `serve` is the
// emulator. `runner` is a stand-in for Atlassian's runner. This package only wires them.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/command"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, caught := untilSignal()
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	if code == 0 && len(os.Args) > 1 && os.Args[1] == "runner" {
		// The exit code of a Java program that a signal ends is 143 for SIGTERM.
		code = caught()
	}
	os.Exit(code)
}

// untilSignal ends the context at SIGINT or SIGTERM. caught returns 128 plus the signal's
// number, or 0 if there was no signal.
func untilSignal() (ctx context.Context, caught func() int) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		number, _ := s.(syscall.Signal)
		cancel(signalError(number))
	}()
	return ctx, func() int {
		var s signalError
		if errors.As(context.Cause(ctx), &s) {
			return 128 + int(s)
		}
		return 0
	}
}

// signalError is the signal that ends the process.
type signalError syscall.Signal

func (s signalError) Error() string { return "signal: " + syscall.Signal(s).String() }

// run executes one command and returns the exit code.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "bitbucket-emulator",
		Short: "Emulate Bitbucket Cloud for tests and demos",
		Long: "bitbucket-emulator emulates Bitbucket Cloud for tests and demos, and Atlassian's runner.\n\n" +
			"Exit codes: 0 success, 1 failure, 2 wrong command line.",
		Example: "  bitbucket-emulator serve      # http://127.0.0.1:7990",
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	command.Group(root, version)
	root.AddCommand(serveCommand(lookup), runnerCommand(lookup), command.VersionCommand(version))
	return command.Run(ctx, root, args)
}
