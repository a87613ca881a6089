package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"

	"bitbucket-runner-scaler/e2e/bench/bed"
	"bitbucket-runner-scaler/e2e/bench/document"
	"bitbucket-runner-scaler/e2e/process"
)

const (
	// manyGroups have 2,000 runners, in 20 workspaces.
	manyGroups = 200
	// reports are how many reports of the probe are timed.
	reports = 150
	// stormed bounds the time until all are attached again.
	stormed = 3 * time.Minute
)

// sidecars measures 2,000 sidecars, how fast a report is seen, and a leader's death.
func (r *run) sidecars(ctx context.Context) error {
	b, err := r.bed(ctx, "sidecars", manyGroups/10+1)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	if err := b.Grow(ctx, manyGroups); err != nil {
		return err
	}
	probe, err := b.AddProbe(ctx)
	if err != nil {
		return err
	}
	n := len(b.Sidecars())
	working, stop := context.WithCancel(ctx)
	load, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(load); _ = b.Poll(working, kedaInterval) }() // what fails is measured
	go func() { defer close(done); b.Work(working, b.Sidecars()[:n-1], between) }()
	defer func() { stop(); <-done; <-load }()
	if err := rest(ctx, r.time(15*time.Second))(); err != nil {
		return err
	}
	if err := b.Scaler().Collect(ctx); err != nil {
		return err
	}
	var seen latencies
	w, err := measure(ctx, b.Scaler(), func() (err error) {
		seen, err = r.reported(ctx, b, probe)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.profile(ctx, b.Scaler(), "sidecars"); err != nil {
		return err
	}
	memory, err := b.Scaler().Memory()
	if err != nil {
		return err
	}
	resident := memory.Now
	r.log("%d sidecars: %.0f MiB resident, reports p50 %v, p99 %v, %.1f ms per snapshot", n, resident/mib, seen.at(50), seen.at(99), 1000*w.buildSeconds/w.builds)
	s, err := r.storm(ctx, b)
	if err != nil {
		return err
	}
	r.log("storm: all attached after %v, %d streams failed, peak %.0f MiB", s.took, s.broken, s.peak/mib)
	return r.write("sidecars", document.Part{
		Title: "2,000 sidecars",
		About: fmt.Sprintf("As above, with %d groups in 20 workspaces and %d sidecars, each over TLS from an address of its own. A report is timed from its sending until KEDA's GetMetrics shows it, which is asked "+
			"again each millisecond; %d reports, while the other runners work. Then the scaler is killed, and a new one is started at once on the same address, with nothing but what Bitbucket and Kubernetes "+
			"have. (Between two replicas the lease adds up to 6 seconds.)", manyGroups+1, n, reports),
		Rows: []document.Row{
			goal(fmt.Sprintf("scaler with %d attached sidecars over TLS: resident memory", n), resident/mib, 256, "%.0f MiB", fmt.Sprintf("%.0f MiB of it not of files", memory.Anonymous/mib),
				"Each connection costs goroutines with their stacks, buffers and the state of TLS, and the heap has headroom between two collections (`GOGC` exchanges it for CPU). With a limit of the container the Go runtime collects more often before it is reached, as here: that costs CPU and time per snapshot. Pages of files do not count as long as they can be dropped."),
			goal("a report of a runner until KEDA's answer shows it, 2,000 sidecars: p99", ms(seen.at(99)), 100, "%.0f ms", fmt.Sprintf("p50 %.0f ms; a snapshot takes %.1f ms", ms(seen.at(50)), 1000*w.buildSeconds/w.builds),
				"At most one snapshot is begun per 50 ms, and a report waits for the one under way and the next one. With other load on the machine each takes longer."),
			{What: "all 2,000 sidecars attach again after the leader's death", Goal: "-", Reference: "100 reviews of tokens per second, 200 at once", Measured: fmt.Sprintf("%.1f s", s.took.Seconds())},
		},
		Notes: []string{
			fmt.Sprintf("With these runners the scaler needed %.1f %% of a core, and built %.1f snapshots per second.", 100*w.cpu/w.seconds, w.builds/w.seconds),
			fmt.Sprintf("After the death the new scaler was ready after %.1f s, answered KEDA for each group after %.1f s, half of the sidecars were attached after %.1f s and all of them after %.1f s. Its memory was at most %.0f MiB. Of all streams, %d broke or could "+
				"not be opened, %.1f per sidecar, the one to the dead scaler included; each was opened again by its sidecar. What bounds the time is the review of tokens: the scaler asks the API server at most 100 times per second for it, so that sidecars cannot flood it.",
				s.ready.Seconds(), s.answering.Seconds(), s.half.Seconds(), s.took.Seconds(), s.peak/mib, s.broken, float64(s.broken)/float64(n)),
		},
	})
}

// reported times reports of the probe, from its sending until GetMetrics shows it.
func (r *run) reported(ctx context.Context, b *bed.Bed, probe *bed.Sidecar) (latencies, error) {
	conn, err := b.Dial()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	client := pb.NewExternalScalerClient(conn)
	until := func(want int64) error {
		for begun := time.Now(); ; {
			answer, err := client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: probe.Group.Ref})
			switch {
			case err != nil:
				return fmt.Errorf("the probe: %w", err)
			case answer.GetMetricValues()[0].GetMetricValue() == want: //nolint:staticcheck // KEDA reads both
				return nil
			case time.Since(begun) > time.Minute:
				return fmt.Errorf("the probe: the answer is %v, want %d", answer.GetMetricValues(), want)
			}
			if err := rest(ctx, time.Millisecond)(); err != nil {
				return err
			}
		}
	}
	if err := until(1); err != nil {
		return nil, err
	}
	var took latencies
	for len(took) < r.count(reports) {
		step := "{" + uuid.NewString() + "}"
		begun, err := probe.Begin(ctx, step)
		if err != nil {
			return nil, err
		}
		if err := until(2); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
		if err := probe.Finish(ctx); err != nil {
			return nil, err
		}
		if err := until(1); err != nil {
			return nil, err
		}
	}
	slices.Sort(took)
	return took, nil
}

// storm is what follows a leader's death.
type storm struct {
	ready, answering, half, took time.Duration
	broken                       int64
	peak                         float64
}

// storm kills the scaler, starts another one, and waits for all sidecars.
func (r *run) storm(ctx context.Context, b *bed.Bed) (s storm, err error) {
	ctx, cancel := context.WithTimeout(ctx, stormed)
	defer cancel()
	count := func() (n int64) {
		for _, one := range b.Sidecars() {
			n += one.Broken.Load()
		}
		return n
	}
	before, begun := count(), time.Now()
	b.KillScaler()
	if err := b.StartScaler(ctx); err != nil {
		return s, err
	}
	s.ready = time.Since(begun)
	answered := make(chan error, 1)
	go func() {
		err := r.eachAnswered(ctx, b)
		s.answering = time.Since(begun)
		answered <- err
	}()
	if err := b.Attached(ctx, len(b.Sidecars())/2); err != nil {
		return s, err
	}
	s.half = time.Since(begun)
	if err := b.Attached(ctx, len(b.Sidecars())); err != nil {
		return s, err
	}
	s.took, s.broken = time.Since(begun), count()-before
	if err := <-answered; err != nil {
		return s, err
	}
	memory, err := b.Scaler().Memory()
	s.peak = memory.Peak
	return s, err
}

// eachAnswered waits until each group gets an answer.
func (r *run) eachAnswered(ctx context.Context, b *bed.Bed) error {
	conn, err := b.Dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := pb.NewExternalScalerClient(conn)
	for _, group := range b.Groups() {
		for {
			if _, err := client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: group.Ref}); err == nil {
				break
			}
			if err := rest(ctx, 20*time.Millisecond)(); err != nil {
				return fmt.Errorf("%s gets no answer: %w", group.Ref.GetName(), err)
			}
		}
	}
	return nil
}

// sidecar measures the real sidecar, as a process that is attached.
func (r *run) sidecar(ctx context.Context) error {
	b, err := r.bed(ctx, "sidecar", 1)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	environment, registered, err := b.Pod()
	if err != nil {
		return err
	}
	program := filepath.Join(b.Programs, "sidecar")
	p, err := process.Start(filepath.Join(b.Dir, "sidecar.log"), environment, program, "run")
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := registered(ctx); err != nil {
		return err
	}
	if err := rest(ctx, r.time(20*time.Second))(); err != nil {
		return err
	}
	memory, err := bed.Gauge{PID: p.PID()}.Memory()
	if err != nil {
		return err
	}
	resident := memory.Now
	binary, err := os.Stat(program)
	if err != nil {
		return fmt.Errorf("the sidecar's size: %w", err)
	}
	r.log("sidecar: %.1f MiB resident, %.1f MB", resident/mib, float64(binary.Size())/1e6)
	return r.write("sidecar", document.Part{
		Title: "The sidecar", About: "One real sidecar as a process, attached over TLS for 20 seconds, and the size of its binary as the image has it.",
		Rows: []document.Row{
			goal("sidecar: resident memory", resident/mib, 15, "%.1f MiB", fmt.Sprintf("%.1f MiB of it not of files", memory.Anonymous/mib), "The Go runtime with grpc-go and TLS; half of it are pages of the binary itself, which all sidecars of a node share."),
			goal("sidecar: size of the binary", float64(binary.Size())/1e6, 13, "%.1f MB", "-", "grpc-go and crypto/tls are most of it."),
		},
	})
}
