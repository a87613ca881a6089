package simulate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

func TestTheSimulatedFleetObeysTheInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		load, o := anyLoad(rt), anyOptions(rt)
		groups := []Group{{Namespace: "ns", Name: "a", Group: anyGroup(rt)}}
		if rapid.Bool().Draw(rt, "two groups") {
			groups = append(groups, Group{Namespace: "ns", Name: "b", Group: anyGroup(rt)})
			groups[1].Labels = []string{"builds", "more"} // it serves the same steps
		}
		w := newWorld(load, Configuration{Groups: groups}, o)
		w.driver = Ours{}.start(w)
		for !w.done() {
			if w.next(); w.now.Sub(load.End) > 48*time.Hour {
				rt.Fatalf("two days later %d of %d steps are done", w.measured.done, load.Steps())
			}
			for _, g := range w.groups {
				if len(g.runners) > g.Rules.MaxRunners() {
					rt.Fatalf("%v: %d Jobs of %s, above max %d", w.now, len(g.runners), g.Name, g.Rules.MaxRunners())
				}
			}
			if n := w.registered(groups[0]); n > policy.ScopeLimit {
				rt.Fatalf("%v: %d runners are registered in the scope", w.now, n)
			}
			if w.measured.killed > 0 {
				rt.Fatalf("%v: a runner with a step was ended", w.now)
			}
		}
		m := w.measured
		if m.waiting != 0 || m.busy != 0 || m.done+m.failed+m.notRun != load.Steps() || len(m.waits) != m.done {
			rt.Fatalf("of %d steps %d are done, %d failed and %d not run; %d wait and %d run", load.Steps(), m.done, m.failed, m.notRun, m.waiting, m.busy)
		}
	})
}

func TestAScopeNeverHasMoreRunnersThanBitbucketAllows(t *testing.T) {
	groups := []Group{groupOf(t, "max", "100", "min", "10"), groupOf(t, "max", "100", "min", "10", "labels", "tests")}
	groups[1].Name = "tests"
	var all []workload.Pipeline
	for i := range 220 {
		p := pipelineAt(nine.Add(time.Duration(i)*time.Second), 30*time.Minute)
		p.Steps[0].Labels = []string{groups[i%2].Labels[0]}
		all = append(all, p)
	}
	for name, scaler := range map[string]Scaler{"ours": Ours{}, "incumbent": Incumbent{Interval: 2 * time.Minute}} {
		w := newWorld(workload.New("two groups", all), Configuration{Groups: groups}, Defaults())
		w.driver = scaler.start(w)
		most := 0
		for !w.done() {
			w.next()
			most = max(most, w.registered(groups[0]))
		}
		if most != policy.ScopeLimit || w.measured.done+w.measured.failed != 220 {
			t.Errorf("%s: %d runners registered at once, %d steps done and %d failed, want 100 and all 220", name, most, w.measured.done, w.measured.failed)
		}
	}
}

func TestAfterTheWorkloadTheFleetShrinksToItsMinimum(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		load, o := anyLoad(rt), anyOptions(rt)
		group := Group{Namespace: "ns", Name: "a", Group: anyGroup(rt)}
		group.Rules.Ephemeral = false
		// Each window of the ratio halves the fleet. With the queue one does, and it may begin as late as
		// the last runner is online, of a Job that was created for the last step.
		windows := 1
		if group.Rules.Strategy == policy.PercentageRunnersIdle {
			windows = 8
		}
		within := o.Boot.Most + o.KEDA + o.Stop
		for range windows {
			within += group.Rules.CoolDown + lookEvery
		}
		o.Tail = within + 5*time.Minute
		w := newWorld(load, Configuration{Groups: []Group{group}}, o)
		w.driver = Ours{}.start(w)
		var last time.Time
		for !w.done() {
			w.next()
			if last.IsZero() && w.left == 0 && w.running == 0 {
				last = w.now
			}
			least := min(max(group.Rules.Min, group.Rules.Spare), group.Rules.Max)
			if n := len(w.groups[0].runners); !last.IsZero() && w.now.Sub(last) > within && n != least {
				rt.Fatalf("%v after the last step there are %d Jobs, want %d after %v", w.now.Sub(last), n, least, within)
			}
		}
	})
}

func TestTheSameSeedGivesTheSameResult(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		load, o := anyLoad(rt), anyOptions(rt)
		o.Samples = 50
		groups := []Group{{Namespace: "ns", Name: "a", Group: anyGroup(rt)}, {Namespace: "ns", Name: "b", Group: anyGroup(rt)}}
		groups[1].Labels = []string{"builds", "more"}
		for name, scaler := range map[string]Scaler{"ours": Ours{}, "incumbent": Incumbent{Interval: 2 * time.Minute}, "clairvoyant": Clairvoyant{}} {
			if diff := cmp.Diff(run(t, load, o, scaler, groups...), run(t, load, o, scaler, groups...)); diff != "" {
				rt.Fatalf("%s: two runs differ: %s", name, diff)
			}
		}
	})
}

func TestNobodyWaitsLessThanTheClairvoyant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var all []workload.Pipeline
		for range rapid.IntRange(1, 60).Draw(rt, "pipelines") {
			all = append(all, pipelineAt(nine.Add(seconds(rt, 3600, "at")), time.Second+seconds(rt, 900, "duration")))
		}
		load := workload.New("any", all)
		group := Group{Namespace: "ns", Name: "g", Group: anyGroup(rt)}
		bound := run(t, load, Defaults(), Clairvoyant{}, group)
		got := run(t, load, Defaults(), Ours{}, group)
		for i := range got.Waits {
			if got.Failed == 0 && got.Waits[i] < bound.Waits[i] {
				rt.Fatalf("wait %d of %d is %v, less than the bound's %v", i, len(got.Waits), got.Waits[i], bound.Waits[i])
			}
		}
	})
}

func seconds(t *rapid.T, most int, label string) time.Duration {
	return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Second
}

// anyGroup draws the settings of a group.
func anyGroup(t *rapid.T) runnergroup.Group {
	g, err := runnergroup.Parse(map[string]string{"workspace": "acme", "labels": "builds"})
	if err != nil {
		t.Fatal(err)
	}
	r := &g.Rules
	r.Strategy = rapid.SampledFrom([]policy.Strategy{policy.PercentageRunnersIdle, policy.QueuedSteps}).Draw(t, "strategy")
	r.Max = rapid.SampledFrom([]int{1, 2, 3, 10, 40, 100}).Draw(t, "max")
	r.Min = min(rapid.IntRange(1, 4).Draw(t, "min"), r.Max)
	r.Spare = rapid.IntRange(0, 3).Draw(t, "spare")
	r.CoolDown = time.Duration(rapid.IntRange(1, 6).Draw(t, "coolDown")) * time.Minute
	r.Ephemeral = rapid.Bool().Draw(t, "ephemeral")
	if r.Strategy == policy.QueuedSteps {
		g.LookAhead = time.Duration(rapid.IntRange(0, 2).Draw(t, "lookAhead")) * 30 * time.Second
	}
	return g
}

// anyLoad draws pipelines with steps that follow each other or run side by side.
func anyLoad(t *rapid.T) workload.Workload {
	var all []workload.Pipeline
	for range rapid.IntRange(1, 25).Draw(t, "pipelines") {
		p := pipelineAt(nine.Add(seconds(t, 1800, "at")), time.Second+seconds(t, 600, "first"))
		for range rapid.IntRange(0, 6).Draw(t, "more") {
			s := workload.Step{Name: string(rune('a' + len(p.Steps))), Labels: builds, Duration: time.Second + seconds(t, 600, "duration")}
			if before := rapid.IntRange(-1, len(p.Steps)-1).Draw(t, "after"); before >= 0 {
				s.After = []int{before}
			}
			p.Steps = append(p.Steps, s)
		}
		all = append(all, p)
	}
	return workload.New("any", all)
}

// anyOptions draws how long things take.
func anyOptions(t *rapid.T) Options {
	o := Defaults()
	o.Boot.Most += seconds(t, 60, "boot")
	o.KEDA = time.Duration(rapid.SampledFrom([]int{3, 5, 30}).Draw(t, "polling interval")) * time.Second
	o.Webhooks = rapid.Bool().Draw(t, "webhooks")
	o.Assign = seconds(t, 5, "assign")
	return o
}
