// Command scaler is the control plane: it answers KEDA's ExternalScaler calls,
// registers runners for the sidecars of runner Jobs, and takes the surplus and
// the orphans away. This package is wiring only.
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

	// The image is built from nothing and has no root certificates of its own.
	_ "golang.org/x/crypto/x509roots/fallback"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "scaler:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	config, err := parse(args, os.LookupEnv, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if config.showVersion {
		_, err := fmt.Fprintln(stdout, version)
		return err
	}
	log, err := config.logger()
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // stderr cannot be synced everywhere
	return serve(ctx, config, log)
}
