// Command soak runs the product on the local cluster for an hour, at the defaults of its
// users: pipelines and webhooks, groups of ordinary and of ephemeral runners, two
// replicas of the scaler, of which the leading one is killed every ten minutes. It
// samples memory, goroutines, open files, Jobs, runners and directories of pods, and
// fails if anything grows, restarts by itself, or is left at the end.
//
//	go run ./soak [-duration 1h] [-kill-every 10m] [-docs DIR]
//
// With -docs it writes the result and the plot into DIR/benchmarks.md.
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
	"time"

	"bitbucket-runner-scaler/e2e/bench/document"
	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

// shortest is the least duration: the terms of two leaders and a margin.
const shortest = 10 * time.Minute

type options struct {
	duration, killEvery time.Duration
	docs                string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.DurationVar(&o.duration, "duration", time.Hour, "how long to run, at least 10m")
	flags.DurationVar(&o.killEvery, "kill-every", 10*time.Minute, "how often the leading replica is killed, at least 4m and at most half of the duration")
	flags.StringVar(&o.docs, "docs", "", "the folder whose benchmarks.md and plot are written; default: none")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var faults []error
	if flags.NArg() > 0 {
		faults = append(faults, fmt.Errorf("arguments: got %q, want none", flags.Args()))
	}
	if o.duration < shortest {
		faults = append(faults, fmt.Errorf("-duration: got %s, want at least %s", o.duration, shortest))
	}
	if o.killEvery < 4*time.Minute || o.killEvery > o.duration/2 {
		faults = append(faults, fmt.Errorf("-kill-every: got %s, want 4m to half of the duration, %s", o.killEvery, o.duration/2))
	}
	return o, errors.Join(faults...)
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := cluster.Start(ctx, cluster.Options{Out: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	err = onCluster(ctx, c, o, out)
	if err != nil && ctx.Err() == nil {
		c.DumpTo(ctx, out)
	}
	return err
}

func onCluster(ctx context.Context, c *cluster.Cluster, o options, out io.Writer) error {
	if err := c.InstallKEDA(ctx); err != nil {
		return err
	}
	if err := installation.BuildImages(ctx, c, out); err != nil {
		return err
	}
	installed, err := installation.Install(ctx, installation.Kube{Kubectl: c.Binaries().Kubectl, Kubeconfig: c.Kubeconfig()}, installation.Images{})
	if err != nil {
		return err
	}
	if err := atDefaults(ctx, installed.Kube); err != nil {
		installed.Close()
		return err
	}
	// The emulator has another pod now, so the connection to it is made again.
	installed.Close()
	if err := installed.Connect(ctx); err != nil {
		return err
	}
	defer installed.Close()
	root, err := installation.Root()
	if err != nil {
		return err
	}
	facts := document.Here(ctx, root)
	result, err := newSoak(installed, c, o, out).run(ctx)
	if err != nil {
		return err
	}
	if err := result.write(out); err != nil {
		return err
	}
	if o.docs != "" {
		if err := result.document(facts, o.docs); err != nil {
			return err
		}
	}
	return result.err()
}
