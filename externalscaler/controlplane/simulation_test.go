package controlplane_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// The simulator is held against the real control plane: of the same pipelines, how long their steps
// wait, and how many Jobs there are.
func TestTheSimulationAgreesWithTheControlPlane(t *testing.T) {
	for name, c := range map[string]struct {
		settings    map[string]string
		percentiles []int
	}{
		"by the queue":    {byQueue(map[string]string{"coolDown": "60s"}), []int{50, 80, 95}},
		"with spare ones": {byQueue(map[string]string{"coolDown": "60s", "spare": "3"}), []int{50, 80, 95}},
		"at most six":     {byQueue(map[string]string{"coolDown": "60s", "max": "6"}), []int{50, 80, 95}},
		// The median depends on which runners Bitbucket chooses.
		"by the ratio": {map[string]string{"repository": "app", "max": "50", "coolDown": "60s"}, []int{80, 95}},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 1, func(w *world) {
				w.apply("fleet", "w0", c.settings, works)
				w.after(16 * time.Minute)
				random := rand.New(rand.NewPCG(1, 2))
				for range 20 {
					sleep(w.ctx, 6*time.Minute+time.Duration(random.IntN(240))*time.Second)
					w.push("w0", fanOutOf(random))
				}
				sleep(w.ctx, 15*time.Minute)
				steps := w.server.State().Steps
				if got := w.outcomes(); got["passed"] != len(steps) {
					t.Fatalf("outcomes %v, want %d passed", got, len(steps))
				}
				compareSimulation(t, steps, len(w.times(w.created, "fleet")), c.settings, c.percentiles)
			}, func(w *world) { w.polling = 5 * time.Second })
		})
	}
}

// fanOutOf is a file with a build, and tests side by side after it.
func fanOutOf(random *rand.Rand) string {
	step := func(name string) string {
		return fmt.Sprintf("step: {name: %s, runs-on: [self.hosted, linux, fleet], script: [sleep %d]}\n", name, 30+random.IntN(60))
	}
	file := "pipelines:\n  default:\n    - " + step("Build") + "    - parallel:\n"
	for range 4 + random.IntN(6) {
		file += "        - " + step("Test")
	}
	return file
}

// compareSimulation simulates the steps that were run, and compares.
func compareSimulation(t *testing.T, steps []emulator.StepInfo, jobs int, settings map[string]string, percentiles []int) {
	t.Helper()
	settings["workspace"], settings["labels"] = "w0", "fleet"
	group, err := runnergroup.Parse(settings)
	if err != nil {
		t.Fatal(err)
	}
	options := simulate.Defaults()
	options.Assign = assignLag
	options.Boot, options.Webhooks = simulate.Span{Least: podStart + runnerStart, Most: podStart + runnerStart}, false
	got, err := simulate.Run(t.Context(), ran(steps), simulate.Configuration{
		Groups: []simulate.Group{{Namespace: "ns", Name: "fleet", Group: group}}, Scaler: simulate.Ours{},
	}, options)
	if err != nil {
		t.Fatal(err)
	}
	waits := make([]time.Duration, len(steps))
	for i, s := range steps {
		waits[i] = s.StartedOn.Sub(s.QueuedOn)
	}
	slices.Sort(waits)
	differ := func(what string, measured, simulated, most float64) {
		t.Logf("%s: %g, simulated %g", what, measured, simulated)
		if math.Abs(measured-simulated) > most*measured {
			t.Errorf("%s: %g, simulated %g, want a difference of %g %% at most", what, measured, simulated, 100*most)
		}
	}
	for _, p := range percentiles {
		at := (len(waits)*p+99)/100 - 1
		differ(fmt.Sprintf("p%d of the wait in seconds", p), waits[at].Seconds(), (got.Waits[at] - assignLag).Seconds(), 0.15)
	}
	differ("Jobs", float64(jobs), float64(got.Runners), 0.25)
}

// assignLag is how long a step shows on a runner before the runner begins it: it asks when it comes
// online and when it has ended a step, when it does not get the step yet, and again after 30 s.
const assignLag = 30 * time.Second

// ran makes a workload of steps that were run.
func ran(steps []emulator.StepInfo) workload.Workload {
	byPipeline := map[string][]emulator.StepInfo{}
	for _, s := range steps {
		byPipeline[s.PipelineUUID] = append(byPipeline[s.PipelineUUID], s)
	}
	var all []workload.Pipeline
	for _, run := range byPipeline {
		p := workload.Pipeline{At: run[0].QueuedOn, Repository: "app", Kind: "default"}
		for i, s := range run {
			step := workload.Step{Name: s.Name, Labels: s.Labels, Duration: s.CompletedOn.Sub(s.StartedOn) - assignLag}
			if i > 0 {
				step.After = []int{0}
			}
			p.Steps = append(p.Steps, step)
			if s.QueuedOn.Before(p.At) {
				p.At = s.QueuedOn
			}
		}
		all = append(all, p)
	}
	return workload.New("ran", all)
}
