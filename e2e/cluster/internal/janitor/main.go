// Command janitor waits until the process that started a cluster has ended, then removes the cluster:
//
//	janitor PLAN
//
// It waits for the end of its standard input, a pipe whose other end that process holds: the kernel closes it however
// the process ends. It exits with 0 if nothing of the cluster is left, else with 1 and what is left on standard error.
// The lock on the machine's one cluster, which it inherits as an open file, is free again when it has ended.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"bitbucket-runner-scaler/e2e/cluster/internal/teardown"
)

// patience bounds the whole clean-up.
const patience = 2 * time.Minute

func main() {
	// Ignore what can end the process that it waits for: a Ctrl-C, a closing terminal, a closed pipe.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, parent io.Reader) error {
	if len(args) != 1 {
		return errors.New("usage: janitor PLAN")
	}
	if _, err := io.Copy(io.Discard, parent); err != nil {
		return fmt.Errorf("waiting for the parent's end: %w", err)
	}
	// Read now and not at the start: the plan may have grown.
	plan, err := teardown.Load(args[0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := teardown.Run(ctx, plan); err != nil {
		return err
	}
	return os.Remove(args[0]) //nolint:gosec // the process that started the janitor names the plan
}
