package simulate

import (
	"fmt"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// groupOf returns a group of runners with the label builds.
func groupOf(t testing.TB, metadata ...string) Group {
	t.Helper()
	given := map[string]string{"workspace": "acme", "labels": "builds"}
	for i := 0; i < len(metadata); i += 2 {
		given[metadata[i]] = metadata[i+1]
	}
	parsed, err := runnergroup.Parse(given)
	if err != nil {
		t.Fatal(err)
	}
	return Group{Namespace: "ns", Name: "builds", Group: parsed}
}

var builds = pipelines.Labels{"self.hosted", "builds"}

func run(t testing.TB, load workload.Workload, o Options, scaler Scaler, groups ...Group) Result {
	t.Helper()
	r, err := Run(t.Context(), load, Configuration{Name: "c", Groups: groups, Scaler: scaler}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSmoke(t *testing.T) {
	for _, shape := range workload.Shapes() {
		load := workload.Synthetic{Shape: shape, Steps: 10000, Days: 1, Labels: builds, Seed: 1}.Make()
		for name, c := range map[string]struct {
			s Scaler
			g Group
		}{
			"queued": {Ours{}, groupOf(t, "strategy", "queuedSteps", "max", "100")},
			"ahead":  {Ours{}, groupOf(t, "strategy", "queuedSteps", "max", "100", "lookAhead", "30s")},
			"ratio":  {Ours{}, groupOf(t, "max", "100")},
			"eph":    {Ours{}, groupOf(t, "strategy", "queuedSteps", "ephemeral", "true", "max", "100")},
			"inc600": {Incumbent{600 * time.Second}, groupOf(t, "max", "100")},
			"inc120": {Incumbent{120 * time.Second}, groupOf(t, "max", "100")},
			"clair":  {Clairvoyant{}, groupOf(t, "max", "100")},
		} {
			begun := time.Now()
			r := run(t, load, Defaults(), c.s, c.g)
			took := time.Since(begun)
			fmt.Println(shape, name, took, r.Steps, r.Done, r.Failed, r.Killed, r.NotRun, r.Wait, r.RunnerTime.Hours(), r.IdleTime.Hours(), r.Calls, r.Peak, r.Runners, r.Elapsed)
		}
	}
}
