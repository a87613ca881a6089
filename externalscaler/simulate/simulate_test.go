package simulate

import (
	"context"
	"errors"
	"strings"
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
	r, err := Run(context.Background(), load, Configuration{Name: "c", Groups: groups, Scaler: scaler}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// nine is a whole hour, and so a moment at which KEDA polls and runners are listed.
var nine = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

// pipelineAt makes a pipeline of steps that follow each other.
func pipelineAt(at time.Time, durations ...time.Duration) workload.Pipeline {
	p := workload.Pipeline{At: at, Kind: "main"}
	for i, d := range durations {
		s := workload.Step{Name: string(rune('a' + i)), Labels: builds, Duration: d}
		if i > 0 {
			s.After = []int{i - 1}
		}
		p.Steps = append(p.Steps, s)
	}
	return p
}

func TestAStepWaitsForHintPollAndBoot(t *testing.T) {
	load := workload.New("two at once", []workload.Pipeline{pipelineAt(nine.Add(time.Hour), 10*time.Minute), pipelineAt(nine.Add(time.Hour), 10*time.Minute)})
	queued := groupOf(t, "strategy", "queuedSteps")
	defaults := Defaults()
	slow, lists, assigned := defaults, defaults, defaults
	slow.Webhook = 20 * time.Second
	lists.Webhooks = false
	assigned.Assign = 3 * time.Second
	lists.WaitOffline = true
	for name, c := range map[string]struct {
		options Options
		group   Group
		want    time.Duration
	}{
		// The first step takes the runner of the minimum, the second one waits. Its pipeline is parsed
		// after 2 s and read after another 0.5 s, KEDA polls at 5 s, and the runner boots for 30 s.
		"by a webhook": {defaults, queued, 35 * time.Second},
		// It is known after 20.5 s.
		"by a slow webhook": {slow, queued, 55 * time.Second},
		// The runner of the first step reports its repository, which is then listed and so shows the
		// pipeline of the second step.
		"by polling": {lists, queued, 35 * time.Second},
		// Without a report the repository is listed once a minute, at whole minutes.
		"by polling alone": {lists, groupOf(t, "strategy", "queuedSteps", "min", "0"), 95 * time.Second},
		// One runner of one is busy: the rule doubles at the next poll, which is at the same moment.
		"by the ratio": {defaults, groupOf(t), 30 * time.Second},
		// The runner learns of its step later.
		"with a delay until the runner knows": {assigned, queued, 38 * time.Second},
	} {
		if got := run(t, load, c.options, Ours{}, c.group); got.Wait.Max != c.want || got.Done != 2 {
			t.Errorf("%s: the second step waited %v, want %v; %d of 2 steps done", name, got.Wait.Max, c.want, got.Done)
		}
	}
}

func TestAStepThatFindsNoRunnerOnlineFails(t *testing.T) {
	load := workload.New("one", []workload.Pipeline{pipelineAt(nine.Add(time.Hour), time.Minute, time.Minute)})
	o := Defaults()
	none := groupOf(t, "strategy", "queuedSteps", "min", "0")
	if got := run(t, load, o, Ours{}, none); got.Failed != 1 || got.NotRun != 1 || got.Done != 0 {
		t.Errorf("got %d failed, %d not run, %d done, want the first failed and the second not run", got.Failed, got.NotRun, got.Done)
	}
	o.WaitOffline = true
	if got := run(t, load, o, Ours{}, none); got.Done != 2 || got.Wait.Max != 35*time.Second {
		t.Errorf("got %d done, the first after %v, want both, the first after 35 s", got.Done, got.Wait.Max)
	}
}

func TestAStepWaitsNoLongerThanBitbucketLetsIt(t *testing.T) {
	var all []workload.Pipeline
	for range 3 {
		all = append(all, pipelineAt(nine.Add(time.Hour), 2*time.Hour))
	}
	load := workload.New("three long ones", all)
	for name, scaler := range map[string]Scaler{"ours": Ours{}, "incumbent": Incumbent{Interval: 2 * time.Minute}, "clairvoyant": Clairvoyant{}} {
		// The second one begins after two hours. The third one would have to wait for four.
		if got := run(t, load, Defaults(), scaler, groupOf(t, "max", "1")); got.Done != 2 || got.Failed != 1 || got.Wait.Max != 2*time.Hour {
			t.Errorf("%s: %d done, %d failed, the longest wait %v; want 2, 1 and 2 h", name, got.Done, got.Failed, got.Wait.Max)
		}
	}
	none := groupOf(t, "strategy", "fixed", "count", "0")
	o := Defaults()
	o.WaitOffline = true
	for name, scaler := range map[string]Scaler{"ours": Ours{}, "clairvoyant": Clairvoyant{}} {
		if got := run(t, load, o, scaler, none); got.Failed != 3 {
			t.Errorf("%s without runners: %d failed, want all three", name, got.Failed)
		}
	}
}

func TestASimulationEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	load := workload.New("one", []workload.Pipeline{pipelineAt(nine, time.Minute)})
	_, err := Run(ctx, load, Configuration{Name: "this one", Groups: []Group{groupOf(t)}, Scaler: Ours{}}, Defaults())
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "simulate this one") {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	bad := Options{Price: -1}
	if _, err := Run(t.Context(), load, Configuration{}, bad); err == nil || !strings.Contains(err.Error(), "polling interval: 0s, want at least 1s") || !strings.Contains(err.Error(), "price per hour: -1") {
		t.Errorf("got %v, want all faults of the options", err)
	}
}

func TestIdleTimeAndCostAreThoseOfTheRunners(t *testing.T) {
	// Two runners for an hour, of which one has a step for ten minutes.
	load := workload.New("one", []workload.Pipeline{pipelineAt(nine.Add(10*time.Minute), 10*time.Minute)})
	o := Defaults()
	o.Price = 0.5
	got := run(t, load, o, Ours{}, groupOf(t, "strategy", "fixed", "count", "2"))
	if got.Elapsed != time.Hour || got.RunnerTime != 2*time.Hour || got.IdleTime != 110*time.Minute || got.Cost != 1 || got.Peak != 2 {
		t.Errorf("got %v of runners, %v idle, cost %v, peak %d in %v, want 2 h, 1 h 50 min, 1, 2 in 1 h", got.RunnerTime, got.IdleTime, got.Cost, got.Peak, got.Elapsed)
	}
	if lists := got.Calls["list runners"]; lists != 60 || got.AllCalls() != 60 {
		t.Errorf("got calls %v, want 60 lists in an hour", got.Calls)
	}
}

func TestLookAheadStartsRunnersBeforeTheyAreNeeded(t *testing.T) {
	var all []workload.Pipeline
	for i := range 20 { // a build, and then four tests side by side
		p := pipelineAt(nine.Add(time.Duration(i)*20*time.Minute), 3*time.Minute+2*time.Second)
		for range 4 {
			p.Steps = append(p.Steps, workload.Step{Name: string(rune('b' + len(p.Steps))), Labels: builds, Duration: 3 * time.Minute, After: []int{0}})
		}
		all = append(all, p)
	}
	load := workload.New("fan-outs", all)
	without := run(t, load, Defaults(), Ours{}, groupOf(t, "strategy", "queuedSteps"))
	with := run(t, load, Defaults(), Ours{}, groupOf(t, "strategy", "queuedSteps", "lookAhead", "40s"))
	if without.Wait.P90 != 33*time.Second || with.Wait.P90 != 0 {
		t.Errorf("p90 is %v without and %v with a look-ahead, want 33 s (3 s until KEDA polls, and the boot) and 0", without.Wait.P90, with.Wait.P90)
	}
}

func TestTheIncumbentFollowsItsRule(t *testing.T) {
	// One long step: of its README, 1 of 1 busy grows to 2 at the next poll, and 1 of 2 changes nothing.
	load := workload.New("long", []workload.Pipeline{pipelineAt(nine.Add(time.Minute), 50*time.Minute)})
	for interval, grown := range map[time.Duration]time.Duration{600 * time.Second: 10 * time.Minute, 120 * time.Second: 2 * time.Minute} {
		w := newWorld(load, Configuration{Groups: []Group{groupOf(t)}}, Defaults())
		w.driver = Incumbent{Interval: interval}.start(w)
		var second time.Time
		for w.next(); !w.done(); w.next() {
			if w.measured.busy+w.measured.idle == 2 && second.IsZero() {
				second = w.now
			}
		}
		// Polls are 15 minutes before nine and every interval from then on, and 5 s later after the
		// first one, which creates the minimum.
		if late := second.Sub(nine.Add(time.Minute)); second.IsZero() || late > grown+Defaults().Boot.Most || w.launched != 2 {
			t.Errorf("at %v: the second of %d runners is online %v after the first is busy, want 2 runners within %v and the boot", interval, w.launched, late, grown)
		}
	}
}
