// Command demo tells the main job on the test bed, without Kubernetes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/jobfactory/controlplane"
	"bitbucket-runner-scaler/jobfactory/testbed"
	"bitbucket-runner-scaler/jobfactory/testbed/story"
)

const preface = `bitbucket-runner-scaler, the main job on this machine.

  real:     scaler (gRPC server, rules, registrar, reaper), sidecar and exec as processes,
            all calls to Bitbucket over HTTP, KEDA's calls over gRPC
  stand-in: Bitbucket Cloud (the emulator), Atlassian's runner (a process that sleeps),
            Kubernetes (in memory) and KEDA (its arithmetic over the scaler's real answers)

"make demo-cluster" shows the same on a real Kubernetes with KEDA.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	bin := flags.String("bin", "bin", "`directory` with the binaries sidecar and bitbucket-emulator")
	keep := flags.Bool("keep", false, "keep running at the end, until interrupted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "brs-") // short: it is part of a socket's path
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	_, _ = fmt.Fprint(out, preface)
	// An interrupt ends the story; the bed then ends in order, its runners deregistered.
	bed, err := start(context.WithoutCancel(ctx), *bin, dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, context.Canceled) {
			logs, logErr := bed.PodLogs()
			_, _ = fmt.Fprintln(out, logs)
			err = errors.Join(err, logErr)
		}
		err = errors.Join(err, bed.Close())
	}()
	groups := []story.Group{{Name: "builds", Label: "builds", Min: 1, Max: 5, Burst: 5}, {Name: "tests", Label: "tests", Min: 1, Max: 3, Burst: 3}}
	s := &stage{bed: bed}
	for _, g := range groups {
		s.uids = append(s.uids, bed.Apply(fleet.GroupKey{Namespace: "bitbucket-runner", Name: g.Name}, map[string]string{
			"scalerAddress": bed.GRPCAddress, "workspace": "acme", "labels": g.Label,
			"min": fmt.Sprint(g.Min), "max": fmt.Sprint(g.Max), "coolDown": "6s",
		}).UID)
	}
	err = story.Tell(ctx, s, story.Settings{Groups: groups, Step: 5 * time.Second, Patience: 2 * time.Minute, Keep: *keep}, out)
	if *keep && err == nil {
		_, _ = fmt.Fprintf(out, "\nKept running until interrupted: Bitbucket %s/_emulator/state, scaler http://%s/status, gRPC %s\n", bed.BitbucketURL, bed.HTTPAddress, bed.GRPCAddress)
		<-ctx.Done()
	}
	return err
}

func start(ctx context.Context, bin, dir string) (*testbed.Bed, error) {
	log, err := zap.Config{
		Level: zap.NewAtomicLevelAt(zap.InfoLevel), Encoding: "json", EncoderConfig: zap.NewProductionEncoderConfig(),
		OutputPaths: []string{filepath.Join(dir, "controlplane.log")}, ErrorOutputPaths: []string{"stderr"},
	}.Build()
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, fmt.Errorf("--bin: %w", err)
	}
	return testbed.Start(ctx, testbed.Config{
		Dir: dir,
		Binaries: testbed.Binaries{
			Sidecar: filepath.Join(bin, "sidecar"),
			Runner:  []string{filepath.Join(bin, "bitbucket-emulator"), "runner"},
		},
		Emulator:     emulator.Options{AssignLag: 500 * time.Millisecond},
		ControlPlane: controlplane.Config{PollInterval: 10 * time.Second, MaxStaleness: time.Minute, WriteSettle: 5 * time.Second, OrphanGrace: 5 * time.Second, ReaperInterval: time.Second},
		KEDAInterval: time.Second,
		Logger:       log,
	})
}

// stage plays the story on the test bed.
type stage struct {
	bed  *testbed.Bed
	uids []string
}

func (s *stage) Look(ctx context.Context) (story.View, error) {
	state, err := s.bed.Control.State(ctx)
	if err != nil {
		return story.View{}, err
	}
	view := story.View{Bitbucket: state, Groups: s.bed.Groups(), Jobs: map[string]int{}}
	for _, scaledJob := range s.bed.Cluster.ScaledJobs() {
		view.Jobs[scaledJob.Name] = len(s.bed.Cluster.JobsOf(scaledJob.UID))
	}
	if len(s.uids) == 0 {
		view.Jobs["deleted"] = len(s.bed.Cluster.Jobs())
	}
	return view, nil
}

func (s *stage) Queue(ctx context.Context, label string, count int, duration time.Duration) error {
	_, err := s.bed.Control.QueueSteps(ctx, emulator.StepRequest{
		Workspace: "acme", Repository: "app", Labels: []string{"linux", label}, Duration: duration.String(), Count: count,
	})
	return err
}

func (s *stage) Orphan(ctx context.Context) (string, error) {
	return story.RegisterOrphan(ctx, http.DefaultClient, s.bed.BitbucketURL, s.bed.Owner(), "builds")
}

func (s *stage) Remove(context.Context) error {
	for _, uid := range s.uids {
		s.bed.Delete(uid)
	}
	s.uids = nil
	return nil
}
