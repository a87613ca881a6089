// Command chaos runs rounds of chaos and reports their results. See package round.
//
//	go run ./chaos -seed 1 -rounds 20
//	go run ./chaos -seed 17 -rate 1                only the round of seed 17, on the real clock
//
// It exits with status 1 if any round violates an invariant. It needs Linux on amd64, but
// not root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"bitbucket-runner-scaler/e2e/chaos/clock"
	"bitbucket-runner-scaler/e2e/chaos/plan"
	"bitbucket-runner-scaler/e2e/chaos/round"
	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

// priority is the nice value of all processes of the rounds.
const (
	priority    = -10
	prioritized = "CHAOS_PRIORITIZED"
)

// prioritize restarts this program with a higher priority, which its processes inherit: on
// a faster clock, a lease of seconds is a fraction of a second. If that is not allowed,
// rounds are slower.
func prioritize() {
	if os.Getenv(prioritized) != "" {
		return
	}
	runtime.LockOSThread() // the priority belongs to the thread, and a new program inherits it from the thread
	defer runtime.UnlockOSThread()
	if unix.Setpriority(unix.PRIO_PROCESS, 0, priority) != nil {
		return
	}
	if program, err := os.Executable(); err == nil {
		_ = syscall.Exec(program, os.Args, append(os.Environ(), prioritized+"=1")) //nolint:gosec // itself; or on as we are
	}
}

// options contains the command line.
type options struct {
	seed             uint64
	rounds, parallel int
	rate             int
	bound            time.Duration
	restartAPI       time.Duration
	dir              string
	source           string
	keep, list       bool
	queue            bool
	without          []plan.Kind
}

func main() {
	prioritize()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	var without string
	set := flag.NewFlagSet("chaos", flag.ContinueOnError)
	set.SetOutput(out)
	set.Uint64Var(&o.seed, "seed", 1, "seed of the first round; the next have the next ones")
	set.IntVar(&o.rounds, "rounds", 1, "how many rounds")
	set.IntVar(&o.parallel, "parallel", 3, "how many at a time")
	set.IntVar(&o.rate, "rate", 3, "how many times as fast as the machine's the rounds' clock runs; 1: the machine's own")
	set.DurationVar(&o.bound, "bound", 0, "begin no round after this time; 0: no bound")
	set.DurationVar(&o.restartAPI, "restart-api", 0, "kill and start the API server itself so often; 0: never")
	set.StringVar(&o.dir, "dir", "", "folder for the rounds' files, a short path (default: a new one among temporary files)")
	set.StringVar(&o.source, "source", "", "folder of the product to build (default: this checkout)")
	set.StringVar(&without, "without", "", "kinds of faults to leave out, comma separated")
	set.BoolVar(&o.queue, "queue", false, "only rounds with groups that scale by the steps that wait; otherwise about half of the rounds have some")
	set.BoolVar(&o.keep, "keep", false, "keep the files of good rounds too")
	set.BoolVar(&o.list, "list", false, "print the plans and play nothing")
	if err := set.Parse(args); err != nil {
		return options{}, err
	}
	for kind := range strings.SplitSeq(without, ",") {
		if kind != "" {
			o.without = append(o.without, plan.Kind(strings.TrimSpace(kind)))
		}
	}
	if set.NArg() > 0 || o.rounds < 1 || o.parallel < 1 || o.rate < 1 {
		return options{}, errors.New("want rounds, parallel and rate of 1 or more, and no arguments")
	}
	return o, nil
}

func (o options) plan(seed uint64) plan.Plan {
	return plan.New(seed, plan.Options{Rate: o.rate, OnlyQueue: o.queue, Without: o.without})
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if err != nil {
		return err
	}
	if o.list {
		for i := range o.rounds {
			_, _ = fmt.Fprintln(out, o.plan(o.seed+uint64(i)))
		}
		return nil
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
			return fmt.Errorf("folder: %w", err)
		}
	}
	suite, stop, err := start(ctx, o, out)
	if err != nil {
		return err
	}
	defer stop()
	return play(ctx, suite, o, out)
}

// start builds the programs and starts the parts that the rounds share.
func start(ctx context.Context, o options, out io.Writer) (suite *round.Suite, stop func(), err error) {
	programs := filepath.Join(o.dir, "programs")
	if err := build(ctx, o, programs, out); err != nil {
		return nil, nil, err
	}
	home := filepath.Join(o.dir, "kubernetes")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, nil, fmt.Errorf("folder: %w", err)
	}
	begun := time.Now()
	plane, err := cluster.StartControlPlane(ctx, home, out)
	if err != nil {
		return nil, nil, err
	}
	_, _ = fmt.Fprintf(out, "Kubernetes and KEDA are up after %.0f s; files in %s\n", time.Since(begun).Seconds(), o.dir)
	client, clientErr := kubernetes.NewForConfig(plane.RESTConfig())
	dynamicClient, dynamicErr := dynamic.NewForConfig(plane.RESTConfig())
	settings := zap.NewProductionConfig()
	settings.OutputPaths = []string{filepath.Join(o.dir, "suite.log")}
	log, logErr := settings.Build()
	if err := errors.Join(clientErr, dynamicErr, logErr); err != nil {
		plane.Close()
		return nil, nil, err
	}
	return &round.Suite{ControlPlane: plane, Client: client, Dynamic: dynamicClient, Programs: programs, Dir: o.dir, Logger: log}, plane.Close, nil
}

// build builds the product's programs with the clock of package clock.
func build(ctx context.Context, o options, programs string, out io.Writer) error {
	source := o.source
	if source == "" {
		root, err := installation.Root()
		if err != nil {
			return err
		}
		source = root
	}
	_, _ = fmt.Fprintln(out, "building scaler, sidecar and emulator for a clock of their own (a minute or two the first time) ...")
	overlay, err := clock.Overlay(ctx, filepath.Join(o.dir, "overlay"))
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "nice", "-n", "15", "go", "build", "-trimpath", "-buildvcs=false", "-overlay", overlay,
		"-o", programs+"/", "./cmd/scaler", "./cmd/sidecar", "./cmd/bitbucket-emulator")
	command.Dir, command.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, text)
	}
	return nil
}
