// Command bitbucket-emulator is Bitbucket Cloud for tests and demos: `serve` is
// the emulator, `runner` a stand-in for Atlassian's runner. This package is
// wiring only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

const usage = `usage:
  bitbucket-emulator serve  [flags]   serve Bitbucket Cloud from memory
  bitbucket-emulator runner [flags]   run a stand-in for Atlassian's runner, with its environment variables
  bitbucket-emulator version
Flags are listed by -h after the command; each may be given as an environment variable: EMULATOR_LISTEN for --listen.
`

func main() {
	ctx, caught := untilSignal()
	err := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout)
	switch {
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "bitbucket-emulator:", err)
		os.Exit(1)
	case len(os.Args) > 1 && os.Args[1] == "runner":
		// As a Java program that a signal ended: 143 for SIGTERM.
		os.Exit(caught())
	}
}

// untilSignal ends the context at SIGINT or SIGTERM; caught then gives 128 plus
// the signal's number, else 0.
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

// signalError is why the process ends.
type signalError syscall.Signal

func (s signalError) Error() string { return "signal: " + syscall.Signal(s).String() }

func run(ctx context.Context, args []string, lookup func(string) (string, bool), out io.Writer) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	var err error
	switch command {
	case "serve":
		err = serve(ctx, args, out)
	case "runner":
		err = runRunner(ctx, args, lookup, out)
	case "version", "--version", "-version":
		_, err = fmt.Fprintln(out, version)
	case "help", "-h", "--help", "-help":
		_, err = fmt.Fprint(out, usage)
	default:
		return fmt.Errorf("command %q, want serve, runner or version\n%s", command, usage)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}
