// Command demo demonstrates the product on the test bed, without Kubernetes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/testbed"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
)

const preface = `bitbucket-runner-scaler, the main job on this machine.

  real:     scaler (gRPC server, queue, rules, registrar, reaper), sidecar and
            exec as processes, all calls to Bitbucket over HTTP, webhooks,
            KEDA's calls over gRPC
  stand-in: Bitbucket Cloud (the emulator), Atlassian's runner (a process that
            sleeps), Kubernetes (in memory) and KEDA (its arithmetic over the
            scaler's real answers)

"make demo-cluster" shows the same on a real Kubernetes with KEDA.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // so that Write returns an error if the output is closed, and everything is cleaned up
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(exit.Report(os.Stderr, "demo", "demo", err))
}

// errInterrupted is the error of a demo that a signal interrupted.
var errInterrupted = exit.With(130, errors.New("interrupted; everything was removed"))

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	set := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	set.SetOutput(out)
	bin := set.String("bin", "bin", "`directory` with the binaries sidecar and bitbucket-emulator")
	keep := set.Bool("keep", false, "keep running at the end, until interrupted")
	documents := set.String("pictures", "", "after the story, work for five minutes and write the pictures of the documentation into this `directory`")
	if err := set.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return flags.Explain(set, err)
	}
	binaries, err := find(*bin)
	if err := errors.Join(flags.NoArguments(set.Args()), err); err != nil {
		return exit.Usage(err)
	}
	dir, err := os.MkdirTemp("", "brs-") // short, because it is part of a socket's path
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	_, _ = fmt.Fprint(out, preface)
	// An interrupt ends the story. Then the bed stops in order and deregisters its runners.
	bed, err := start(context.WithoutCancel(ctx), binaries, dir)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "The scaler's page: %s\n\n", page(bed))
	taking, stop := context.WithCancel(ctx)
	said := make(chan string, 1)
	go func() { said <- pictureOf(taking, bed, *bin) }()
	err = runStory(ctx, bed, *keep, *documents, out)
	stop()
	_, _ = fmt.Fprintf(out, "\nThe scaler's page was at %s; %s.\n", page(bed), <-said)
	if err != nil && ctx.Err() == nil {
		logs, logErr := bed.PodLogs()
		_, _ = fmt.Fprintln(out, logs)
		err = errors.Join(err, logErr)
	}
	if ctx.Err() != nil {
		_, _ = fmt.Fprintln(out, "\nInterrupted: runners are being deregistered, processes ended (a few seconds) ...")
		if err != nil {
			err = errInterrupted
		}
	}
	return errors.Join(err, bed.Close())
}

// find returns the programs that the pods run. The error names every missing one.
func find(dir string) (testbed.Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return testbed.Binaries{}, fmt.Errorf("--bin: %w", err)
	}
	sidecar, runner := filepath.Join(dir, "sidecar"), filepath.Join(dir, "bitbucket-emulator")
	var faults []error
	for _, program := range []string{sidecar, runner} {
		if _, err := exec.LookPath(program); err != nil {
			faults = append(faults, fmt.Errorf("--bin: %w; \"make demo\" builds it", err))
		}
	}
	return testbed.Binaries{Sidecar: sidecar, Runner: []string{runner, "runner"}}, errors.Join(faults...)
}

// The times of the demo: those of the installation, in short.
const (
	kedaInterval = time.Second
	assignLag    = 500 * time.Millisecond
	coolDown     = 5 * time.Second
)

// runStory runs the story. With keep, the bed keeps running until ctx ends.
func runStory(ctx context.Context, bed *testbed.Bed, keep bool, documents string, out io.Writer) error {
	stage := testbed.NewStage(bed, story.Groups(), map[string]string{"coolDown": coolDown.String()})
	settings := story.Settings{Pace: time.Second, Poll: kedaInterval, Webhooks: true, Patience: 2 * time.Minute, Keep: keep || documents != ""}
	if err := story.Run(ctx, stage, bed.Control, settings, out); err != nil {
		return err
	}
	if documents != "" {
		if err := document(ctx, bed, documents); err != nil {
			return fmt.Errorf("pictures: %w", err)
		}
	}
	if keep {
		_, _ = fmt.Fprintf(out, kept, bed.BitbucketURL, bed.HTTPAddress, bed.GRPCAddress)
		<-ctx.Done()
	}
	return nil
}

// kept explains what to do with a bed that is kept running.
const kept = `
Everything keeps running until Ctrl-C: Bitbucket %[1]s, the scaler's page http://%[2]s/, gRPC %[3]s. In another shell:

  curl %[1]s/_emulator/steps -d '{"workspace":"acme","repository":"app","labels":["linux","builds"],"duration":"30s","count":5}'
  bin/runnerctl status --address http://%[2]s    (after "make build")
`

func start(ctx context.Context, binaries testbed.Binaries, dir string) (*testbed.Bed, error) {
	log, err := zap.Config{
		Level: zap.NewAtomicLevelAt(zap.InfoLevel), Encoding: "json", EncoderConfig: zap.NewProductionEncoderConfig(),
		OutputPaths: []string{filepath.Join(dir, "controlplane.log")}, ErrorOutputPaths: []string{"stderr"},
	}.Build()
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return testbed.Start(ctx, testbed.Config{
		Dir:      dir,
		Binaries: binaries,
		Emulator: emulator.Options{AssignLag: assignLag, ParseLag: time.Second},
		Webhooks: true,
		ControlPlane: controlplane.Config{
			Version: "demo", PollInterval: 3 * time.Second, MaxStaleness: time.Minute, WriteSettle: 2 * time.Second, OrphanGrace: 4 * time.Second,
			ReaperInterval: 500 * time.Millisecond, StepAssignDelay: 6 * assignLag,
		},
		KEDAInterval: kedaInterval,
		Logger:       log,
	})
}
