package suite

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

const (
	simulatedLabel      = "simulated"
	simulatedRepository = "api"
	simulatedPolling    = 5 * time.Second
	// simulatedBursts pipelines begin one after the other, so that the runners of one are gone before
	// the next one.
	simulatedBursts = 8
	simulatedEvery  = 100 * time.Second
)

// TestLongSimulationAgreesWithTheCluster runs a workload on the cluster, and simulates it with the times
// that were measured meanwhile: when the pipelines began, how long their steps and the start of a
// runner took. How long the steps waited must agree.
func TestLongSimulationAgreesWithTheCluster(t *testing.T) {
	hook(t, simulatedRepository)
	metadata := byQueue(simulatedRepository, map[string]string{"labels": simulatedLabel, "coolDown": "30s"})
	edited(t, installation.Edit{Name: simulatedLabel, PollingInterval: simulatedPolling, Metadata: metadata})
	jobs := watchJobs(t, simulatedLabel)
	arrivals := watchOnline(t, simulatedLabel)
	untilOnline(t, simulatedLabel, 1, 0)
	begun := time.Now()
	played := playBursts(t)
	boot := boots(t, jobs.after(begun), arrivals.after(begun))

	metadata["workspace"] = "acme"
	parsed, err := runnergroup.Parse(metadata)
	if err != nil {
		t.Fatal(err)
	}
	var simulated []time.Duration
	for phase := time.Duration(0); phase < simulatedPolling; phase += time.Second { // between the pipelines and KEDA's polls
		simulated = append(simulated, simulateBursts(t, played, parsed, boot, phase)...)
	}
	var measured []time.Duration
	for _, s := range played {
		measured = append(measured, s.StartedOn.Sub(s.QueuedOn))
	}
	slices.Sort(measured)
	slices.Sort(simulated)
	t.Logf("boot %v; %d steps", boot, len(measured))
	for _, p := range []float64{0.5, 0.95} {
		got, want := percentile(simulated, p), percentile(measured, p)
		t.Logf("p%g: %v on the cluster, %v simulated", 100*p, want, got)
		if math.Abs(got.Seconds()-want.Seconds()) > 0.15*want.Seconds() {
			t.Errorf("p%g of the wait: %v on the cluster, %v simulated, want a difference of 15 %% at most", 100*p, want, got)
		}
	}
}

// playBursts pushes the pipelines and returns their steps once all have passed: a build, and then six
// tests side by side, of which one gets the runner of the build.
func playBursts(t *testing.T) (steps []emulator.StepInfo) {
	t.Helper()
	runsOn := "runs-on: [self.hosted, linux, " + simulatedLabel + "]"
	file := "pipelines:\n  default:\n    - step: {name: Build, " + runsOn + ", script: [sleep 10]}\n    - parallel:\n" +
		strings.Repeat("        - step: {name: Test, "+runsOn+", script: [sleep 20]}\n", 6)
	pipelines := map[string]bool{}
	for i := range simulatedBursts {
		pushed, err := shared.Control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: simulatedRepository, Branch: "main", File: file})
		if err != nil {
			t.Fatal(err)
		}
		pipelines[pushed.Pipeline] = true
		// Not in step with KEDA's polls, whose phases would else be all the same.
		time.Sleep(simulatedEvery + time.Duration(i)*simulatedPolling/simulatedBursts)
	}
	until(t, "all steps to pass", func() (bool, error) {
		steps = slices.DeleteFunc(state(t).Steps, func(s emulator.StepInfo) bool { return !pipelines[s.PipelineUUID] })
		for _, s := range steps {
			if s.Outcome != emulator.OutcomePassed {
				return false, nil
			}
		}
		return len(steps) == 7*simulatedBursts, nil
	})
	return steps
}

// simulateBursts simulates the steps, and returns how long each waits.
func simulateBursts(t *testing.T, steps []emulator.StepInfo, group runnergroup.Group, boot simulate.Span, phase time.Duration) []time.Duration {
	t.Helper()
	byPipeline := map[string][]emulator.StepInfo{}
	for _, s := range steps {
		byPipeline[s.PipelineUUID] = append(byPipeline[s.PipelineUUID], s)
	}
	var all []workload.Pipeline
	for _, run := range byPipeline {
		slices.SortStableFunc(run, func(a, b emulator.StepInfo) int { return a.QueuedOn.Compare(b.QueuedOn) })
		p := workload.Pipeline{At: run[0].QueuedOn.Add(phase), Repository: simulatedRepository, Kind: "default"}
		for i, s := range run {
			step := workload.Step{Name: s.Name, Labels: s.Labels, Duration: s.CompletedOn.Sub(s.StartedOn)}
			if i > 0 {
				step.After = []int{0}
			}
			p.Steps = append(p.Steps, step)
		}
		all = append(all, p)
	}
	options := simulate.Defaults()
	options.Boot, options.KEDA = boot, simulatedPolling
	result, err := simulate.Run(t.Context(), workload.New("bursts", all), simulate.Configuration{
		Name: simulatedLabel, Groups: []simulate.Group{{Namespace: installation.Runners, Name: simulatedLabel, Group: group}}, Scaler: simulate.Ours{},
	}, options)
	if err != nil {
		t.Fatal(err)
	}
	return result.Waits
}

// boots returns how long runners took from the creation of their Jobs until they were online, without
// the shortest and the longest tenth.
func boots(t *testing.T, created, online []time.Time) simulate.Span {
	t.Helper()
	n := min(len(created), len(online))
	if n < simulatedBursts {
		t.Fatalf("%d Jobs and %d runners online, want at least %d", len(created), len(online), simulatedBursts)
	}
	took := make([]time.Duration, n)
	for i := range took {
		took[i] = online[i].Sub(created[i])
	}
	slices.Sort(took)
	return simulate.Span{Least: took[n/10], Most: took[n-1-n/10]}
}

// watchOnline notes when each runner with a label is first online, until the test ends.
func watchOnline(t *testing.T, label string) *created {
	t.Helper()
	c := &created{}
	known := map[string]bool{}
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		look := time.NewTicker(200 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-stop:
				return
			case <-look.C:
			}
			now, err := shared.Control.State(t.Context())
			if err != nil {
				continue // the next look shows it
			}
			for _, r := range now.Runners {
				if r.Connected && !known[r.UUID] && slices.Contains(r.Labels, label) {
					known[r.UUID] = true
					c.mu.Lock()
					c.times = append(c.times, time.Now())
					c.mu.Unlock()
				}
			}
		}
	})
	t.Cleanup(func() { close(stop); looking.Wait() })
	return c
}
