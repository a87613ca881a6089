package cluster

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Suite is a test suite, such as a *testing.M.
type Suite interface {
	// Run runs the tests and returns the exit code.
	Run() int
}

// Run runs a suite on one cluster with KEDA and returns the exit code, for a TestMain: os.Exit(cluster.Run(m, use)).
// use is called once before the tests, with the cluster that they share; its error ends the suite. If a test fails,
// the state of the cluster is printed. If anything of the cluster is left at the end, the suite fails. An interrupt
// (SIGINT, SIGTERM) ends it all in order.
func Run(suite Suite, use func(ctx context.Context, c *Cluster) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, err := Start(ctx, Options{Out: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := make(chan int, 1)
	go func() { code <- runOn(ctx, c, suite, use) }()
	var result int
	select {
	case result = <-code:
	case <-ctx.Done(): // the tests need not have noticed
		result = 130
	}
	if err := c.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return result
}

func runOn(ctx context.Context, c *Cluster, suite Suite, use func(ctx context.Context, c *Cluster) error) int {
	err := c.InstallKEDA(ctx)
	if err == nil {
		err = use(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		c.DumpTo(ctx, os.Stderr)
		return 1
	}
	code := suite.Run()
	if code != 0 {
		c.DumpTo(ctx, os.Stderr)
	}
	return code
}
