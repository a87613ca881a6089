package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"

	"bitbucket-runner-scaler/e2e/bench/bed"
	"bitbucket-runner-scaler/e2e/bench/document"
)

const (
	mib = 1 << 20
	// sizes are the numbers of groups, each with ten runners, of which ten fill a workspace.
	workspaces = 10
	// kedaInterval is the pollingInterval of the example.
	kedaInterval = 5 * time.Second
	// between is the mean time between two steps of a runner. A step takes twice as long.
	between = time.Minute
	// perSecond is the rate of the open loop.
	perSecond = 1000
)

var sizes = []int{10, 25, 50, 100}

// size is what a scaler with some groups needs.
type size struct {
	groups              int
	memory              bed.Memory
	heap                float64 // bytes
	resting, cpu        float64 // cores: while no step begins or ends, and with steps
	each, builds, calls float64 // seconds per snapshot, per second, per hour
}

// fleet measures the scaler from 10 groups and 100 runners to 100 groups and 1,000 runners.
func (r *run) fleet(ctx context.Context) error {
	b, err := r.bed(ctx, "fleet", workspaces)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	var grown []size
	for _, n := range sizes {
		if err := b.Grow(ctx, n); err != nil {
			return err
		}
		during := r.time(20 * time.Second)
		if n == sizes[len(sizes)-1] {
			during = r.time(time.Minute)
		}
		at, err := r.sized(ctx, b, n, during)
		if err != nil {
			return err
		}
		r.log("%d groups: %.0f MiB resident, %.0f MiB of heap, %.1f %% of a core, %.1f ms per snapshot, %.1f snapshots per second", n, at.memory.Now/mib, at.heap/mib, 100*at.cpu, 1000*at.each, at.builds)
		grown = append(grown, at)
	}
	answers, err := r.answers(ctx, b)
	if err != nil {
		return err
	}
	if deleted := b.Deleted(); deleted > 0 {
		return fmt.Errorf("fleet: %d Jobs were deleted, want none", deleted)
	}
	return r.writeFleet(grown, answers)
}

// sized measures a scaler whose runners work while KEDA polls.
func (r *run) sized(ctx context.Context, b *bed.Bed, n int, during time.Duration) (size, error) {
	gauge := b.Scaler()
	working, stop := context.WithCancel(ctx)
	load := make(chan struct{})
	go func() { defer close(load); _ = b.Poll(working, kedaInterval) }() // what fails is measured
	defer func() { stop(); <-load }()
	if err := rest(ctx, r.time(10*time.Second))(); err != nil { // after the burst of registrations
		return size{}, err
	}
	if err := gauge.Collect(ctx); err != nil {
		return size{}, err
	}
	resting, err := measure(ctx, gauge, rest(ctx, during/2))
	if err != nil {
		return size{}, err
	}
	done := make(chan struct{})
	go func() { defer close(done); b.Work(working, b.Sidecars(), between) }()
	defer func() { stop(); <-done }()
	if err := rest(ctx, r.time(5*time.Second))(); err != nil {
		return size{}, err
	}
	w, err := measure(ctx, gauge, rest(ctx, during))
	if err != nil {
		return size{}, err
	}
	if err := r.profile(ctx, gauge, fmt.Sprintf("fleet-%d", n)); err != nil {
		return size{}, err
	}
	memory, err := gauge.Memory()
	if err != nil {
		return size{}, err
	}
	values, err := gauge.Metrics(ctx)
	if err != nil {
		return size{}, err
	}
	return size{
		groups: n, memory: memory, resting: resting.cpu / resting.seconds, heap: values["go_memstats_heap_alloc_bytes"], cpu: w.cpu / w.seconds, each: w.buildSeconds / w.builds,
		builds: w.builds / w.seconds, calls: w.calls / w.seconds * 3600,
	}, nil
}

// profile writes profiles if they are asked for.
func (r *run) profile(ctx context.Context, gauge bed.Gauge, name string) error {
	if r.profiles == "" {
		return nil
	}
	for kind, seconds := range map[string]int{"heap": 0, "cpu": 20} {
		profile, err := gauge.Profile(ctx, seconds)
		if err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		if err := os.WriteFile(filepath.Join(r.profiles, name+"-"+kind+".pb.gz"), profile, 0o644); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
	}
	return nil
}

// answered is how GetMetrics is answered, by the scaler and by the reference.
type answered struct {
	alone, reference          time.Duration // the median of one caller
	mallocs, referenceMallocs float64       // per call
	open, referenceOpen       latencies
	buildsPerSecond           float64
}

// answers measures GetMetrics: alone, in turns with the reference, and then at a rate while the
// runners report.
func (r *run) answers(ctx context.Context, b *bed.Bed) (a answered, err error) {
	gauge, conn, end, err := r.reference(ctx, b)
	if err != nil {
		return a, err
	}
	defer end()
	own, err := b.Dial()
	if err != nil {
		return a, err
	}
	defer func() { _ = own.Close() }()
	groups := b.Groups()
	scaler, reference := pb.NewExternalScalerClient(own), pb.NewExternalScalerClient(conn)
	var mine, others latencies
	for range 6 { // in turns, because the machine may have other work
		for client, took := range map[pb.ExternalScalerClient]*latencies{scaler: &mine, reference: &others} {
			more, err := oneCaller(ctx, client, groups, r.time(3*time.Second))
			if err != nil {
				return a, err
			}
			*took = append(*took, more...)
		}
	}
	slices.Sort(mine)
	slices.Sort(others)
	a.alone, a.reference = mine.at(50), others.at(50)
	if a.mallocs, err = r.mallocs(ctx, b.Scaler(), scaler, groups); err != nil {
		return a, err
	}
	if a.referenceMallocs, err = r.mallocs(ctx, gauge, reference, groups); err != nil {
		return a, err
	}
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); b.Work(working, b.Sidecars(), between/10) }()
	defer func() { stop(); <-done }()
	w, err := measure(ctx, b.Scaler(), func() (err error) {
		a.open, err = openLoop(ctx, scaler, groups, perSecond, r.time(30*time.Second))
		return err
	})
	if err != nil {
		return a, err
	}
	a.buildsPerSecond = w.builds / w.seconds
	a.referenceOpen, err = openLoop(ctx, reference, groups, perSecond, r.time(30*time.Second))
	return a, err
}

// mallocs returns the allocations per call of GetMetrics in the server, above those at rest.
func (r *run) mallocs(ctx context.Context, gauge bed.Gauge, client pb.ExternalScalerClient, groups []bed.Group) (float64, error) {
	during := r.time(5 * time.Second)
	resting, err := measure(ctx, gauge, rest(ctx, during))
	if err != nil {
		return 0, err
	}
	calls := 0
	calling, err := measure(ctx, gauge, func() error {
		took, err := oneCaller(ctx, client, groups, during)
		calls = len(took)
		return err
	})
	if err != nil {
		return 0, err
	}
	return (calling.mallocs - resting.mallocs/resting.seconds*calling.seconds) / float64(calls), nil
}

// writeFleet writes the part of the document and its plot.
func (r *run) writeFleet(grown []size, a answered) error {
	last := grown[len(grown)-1]
	part := document.Part{
		Title: "From 10 to 100 groups",
		About: "The scaler as a process, with its default intervals, over TLS. Each group has ten runners, each with a sidecar on a connection of its own. Each runner has a step of two minutes on average, and then " +
			"a minute without. KEDA polls each group every 5 seconds, with its three calls. Lists, Jobs, pods and ScaledJobs come over loopback, from the emulator and from a minimal API server. " +
			"The Go runtime has the memory limit that follows from the Deployment's 256 MiB. `--hourly-budget` is raised, so that all runners can be registered at once. The memory is that after collecting garbage and then working for the time that is measured.",
		Rows: []document.Row{
			goal("scaler at 100 groups and 1,000 runners: resident memory", last.memory.Now/mib, 64, "%.0f MiB", fmt.Sprintf("%.0f MiB of it not of files; %.0f MiB with %d groups", last.memory.Anonymous/mib, grown[0].memory.Now/mib, grown[0].groups),
				"With ten groups it needs that much already: the program's own pages, with client-go and grpc-go, are resident too. The rest is the heap, of which a third is headroom between two collections, and the connections of the sidecars, each with TLS, HTTP/2 and goroutines. `GOGC` exchanges the headroom for CPU; 64 MiB would need another transport."),
			goal("scaler at 100 groups and 1,000 runners: share of a core while no step begins or ends", 100*last.resting, 5, "%.1f %%", "-", "KEDA's calls and one snapshot per second are most of it."),
			goal("the same with 11 reports of steps per second", 100*last.cpu, 5, "%.1f %%", fmt.Sprintf("%.1f snapshots per second", last.builds),
				"Each report of a runner has a snapshot built, in which only its own group is joined again. By the profile, building snapshots is 40 % of it: the tables of all groups and runners, and the queue. Changing these in place would save most of that. Collecting garbage, which scans the stacks of all connections, is 20 %."),
			ratio("GetMetrics, one caller, median", a.alone, a.reference, 1.1),
			{What: "GetMetrics: allocations of the server per call", Goal: "-", Reference: fmt.Sprintf("%.0f of an empty handler", a.referenceMallocs), Measured: fmt.Sprintf("%.0f", a.mallocs)},
			goal(fmt.Sprintf("GetMetrics at 1,000 calls per second, 100 groups, 1,000 runners, %.0f snapshots per second: p99", a.buildsPerSecond), ms(a.open.at(99)), 5, "%.1f ms",
				fmt.Sprintf("empty handler: p50 %.1f, p99 %.1f ms", ms(a.referenceOpen.at(50)), ms(a.referenceOpen.at(99))),
				"Caller, scaler, emulator and whatever else runs share two cores, and building a snapshot takes one of them meanwhile: the p99 of the empty handler shows what the machine alone adds."),
		},
		Table: [][]string{{"groups", "runners", "resident memory", "not of files", "Go heap", "share of a core at rest", "with steps", "time per snapshot", "snapshots per second", "calls to Bitbucket per hour"}},
		Notes: []string{
			fmt.Sprintf("At 1,000 calls per second the answers took p50 %.1f, p99 %.1f, p99.9 %.1f and at most %.1f ms, those of the empty handler p50 %.1f, p99 %.1f, p99.9 %.1f and at most %.1f ms. "+
				"The time of a call runs from the moment at which it was due, whether or not those before were answered.",
				ms(a.open.at(50)), ms(a.open.at(99)), ms(a.open.at(99.9)), ms(a.open.at(100)), ms(a.referenceOpen.at(50)), ms(a.referenceOpen.at(99)), ms(a.referenceOpen.at(99.9)), ms(a.referenceOpen.at(100))),
			"![Memory, CPU and time per snapshot by the number of groups](" + document.Growth + ")",
			"The dashed lines show what would be proportional to the number of groups, from the first point on.",
		},
	}
	series := []document.Series{{Title: "resident memory, MiB"}, {Title: "share of a core, %"}, {Title: "time per snapshot, ms"}}
	for _, s := range grown {
		part.Table = append(part.Table, []string{
			fmt.Sprint(s.groups), fmt.Sprint(10 * s.groups), fmt.Sprintf("%.0f MiB", s.memory.Now/mib), fmt.Sprintf("%.0f MiB", s.memory.Anonymous/mib), fmt.Sprintf("%.0f MiB", s.heap/mib), fmt.Sprintf("%.1f %%", 100*s.resting), fmt.Sprintf("%.1f %%", 100*s.cpu),
			fmt.Sprintf("%.1f ms", 1000*s.each), fmt.Sprintf("%.1f", s.builds), fmt.Sprintf("%.0f", s.calls),
		})
		for i, y := range []float64{s.memory.Now / mib, 100 * s.cpu, 1000 * s.each} {
			series[i].Points = append(series[i].Points, document.Point{X: float64(s.groups), Y: y})
		}
	}
	svg, err := document.Draw(series)
	if err != nil {
		return err
	}
	if err := r.document.WriteGrowth(svg); err != nil {
		return err
	}
	return r.write("fleet", part)
}
