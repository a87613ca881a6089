// Command cluster builds and runs the local Kubernetes with KEDA:
//
//	go run ./cmd/cluster build   builds all of its programs and images (kept; half an hour the first time)
//	go run ./cmd/cluster up      starts it, prints how to reach it, and removes it on Ctrl-C
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"bitbucket-runner-scaler/e2e/cluster"
)

var errUsage = errors.New("usage: cluster build | up")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) != 1 {
		return errUsage
	}
	switch args[0] {
	case "build":
		return build(ctx, stdout)
	case "up":
		return up(ctx, stdout)
	default:
		return fmt.Errorf("%q: %w", args[0], errUsage)
	}
}

func build(ctx context.Context, stdout io.Writer) error {
	if err := cluster.Require(ctx, stdout); err != nil {
		return err
	}
	binaries, err := cluster.Build(ctx, stdout)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "all is built; kubectl is %s\n", binaries.Kubectl)
	return err
}

func up(ctx context.Context, stdout io.Writer) (err error) {
	c, err := cluster.Start(ctx, cluster.Options{Out: stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.InstallKEDA(ctx); err != nil {
		c.DumpTo(context.WithoutCancel(ctx), stdout)
		return err
	}
	if _, err := fmt.Fprintf(stdout, "\n  export KUBECONFIG=%s PATH=%s:$PATH\n\nCtrl-C takes the cluster away.\n",
		c.Kubeconfig(), filepath.Dir(c.Binaries().Kubectl)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
