package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/bench/document"
)

const mebi = 1 << 20

// finding is one thing that was looked at.
type finding struct {
	what, measured, want string
	ok                   bool
}

// result is what a run found.
type result struct {
	title    string
	findings []finding
	soak     *soak
}

// The bounds. Memory and goroutines follow the number of runners and the garbage
// collector, so single values vary; what grows for an hour is beyond these.
const (
	mostGrowth    = 1.25
	slackMemory   = 4 * mebi
	slackRoutines = 20
	slackFiles    = 10
)

func (s *soak) judge(before, after sample, counters emulator.Counters) result {
	r := result{soak: s}
	r.title = fmt.Sprintf("%s with Kubernetes %s and KEDA %s: %d pipelines, %d steps, %d leaders killed",
		s.options.duration, s.versions.Kubernetes.Version, s.versions.KEDA.Version, len(s.pipelines), len(s.passed)+len(s.failed), s.kills)
	add := func(what string, ok bool, want, measured string, args ...any) {
		r.findings = append(r.findings, finding{what, fmt.Sprintf(measured, args...), want, ok})
	}
	pushed := int(s.options.duration/pushEvery) * 9 / 10 // a push may be late
	add("pipelines", len(s.pipelines) > 0 && len(s.pipelines) >= pushed, fmt.Sprintf("at least %d", max(1, pushed)), "%d", len(s.pipelines))
	add("steps that passed", len(s.passed) == stepsOfPipeline*len(s.pipelines), fmt.Sprintf("%d", stepsOfPipeline*len(s.pipelines)), "%d", len(s.passed))
	add("steps that did not pass", len(s.failed) == 0, "0", "%d", len(s.failed))
	waits := make([]time.Duration, 0, len(s.passed))
	for _, wait := range s.passed {
		waits = append(waits, wait)
	}
	slices.Sort(waits)
	if len(waits) > 0 {
		add("wait of the steps, median and p95", true, "-", "%.1f s, %.1f s", waits[len(waits)/2].Seconds(), waits[len(waits)*95/100].Seconds())
	}
	add("leaders killed", s.kills > 0, "at least 1", "%d", s.kills)
	add("restarts of containers, beyond the kills", after.Restarts-before.Restarts == s.kills, "0", "%d", after.Restarts-before.Restarts-s.kills)
	add("busy runners deleted", counters.BusyRunnersDeleted == 0, "0", "%d", counters.BusyRunnersDeleted)
	// The load needs more than the 1,000 calls an hour that Bitbucket allows, and a new leader
	// does not know how many the last one has used. No step may be lost for that.
	add("calls to Bitbucket, and how many of them it refused with 429", len(counters.Calls) > 0, "-", "%d, %d", total(counters.Calls), counters.TooManyRequests)
	led := 0
	for _, one := range s.samples {
		if _, ok := one.leader(); ok {
			led++
		}
	}
	add("samples in which a replica led", 10*led >= 9*len(s.samples) && led > 0, "at least 90 %", "%d of %d", led, len(s.samples))
	terms := s.terms()
	add("leaders long enough to judge growth", len(terms) >= s.kills && len(terms) > 0, fmt.Sprintf("at least %d", max(1, s.kills)), "%d", len(terms))
	for _, of := range []struct {
		what  string
		slack float64
		unit  float64
		form  string
		value func(process) float64
	}{
		{"resident memory", slackMemory, mebi, "%.1f MiB, then %.1f MiB", func(p process) float64 { return p.Resident }},
		{"heap", slackMemory, mebi, "%.1f MiB, then %.1f MiB", func(p process) float64 { return p.Heap }},
		{"goroutines", slackRoutines, 1, "%.0f, then %.0f", func(p process) float64 { return p.Goroutines }},
		{"open files", slackFiles, 1, "%.0f, then %.0f", func(p process) float64 { return p.Open }},
	} {
		flat := func(values []float64) (first, last float64, ok bool) {
			first, last = thirds(values)
			return first, last, first > 0 && last <= mostGrowth*first+of.slack
		}
		var all []float64
		var worst [2]float64
		grown := false
		for _, t := range terms {
			values := t.values(of.value)
			all = append(all, values...)
			first, last, ok := flat(values)
			grown = grown || !ok
			if last-first > worst[1]-worst[0] || worst == [2]float64{} {
				worst = [2]float64{first, last}
			}
		}
		first, last, ok := flat(all)
		add(of.what+" of the leaders, median of the first and of the last third of the time", ok, "no growth", of.form, first/of.unit, last/of.unit)
		add(of.what+" of the leader that grew most, the same of its own time", !grown && len(terms) > 0, "no growth", of.form, worst[0]/of.unit, worst[1]/of.unit)
	}
	add("runners left at Bitbucket", after.Runners == 0, "0", "%d", after.Runners)
	add("Jobs and pods left", after.Jobs+after.Pods == 0, "0", "%d", after.Jobs+after.Pods)
	add("more ConfigMaps, Secrets and Leases than before", after.Objects <= before.Objects+runnerObjects, "0", "%d", max(0, after.Objects-before.Objects-runnerObjects))
	add("directories of pods left on the node", after.Directories <= before.Directories, "0", "%d", max(0, after.Directories-before.Directories))
	return r
}

// total returns the sum of all counts.
func total(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// runnerObjects are the ConfigMaps of the runners' namespace, which the first group's
// manifest makes: the scaler's authority, and Kubernetes' own.
const runnerObjects = 2

// warmUp is how long a new leader needs until it has attached all sidecars and its heap has
// its size.
const warmUp = 2 * time.Minute

// term is what one process said while it led, after warming up.
type term []process

func (t term) values(value func(process) float64) []float64 {
	values := make([]float64, len(t))
	for i, p := range t {
		values[i] = value(p)
	}
	return values
}

// terms are those of all leaders that can be judged. Each leader is killed, so growth over
// the whole time would not show a leak: its memory goes with the process.
func (s *soak) terms() (terms []term) {
	type identity struct {
		pod     string
		started time.Time
	}
	byProcess := map[identity]term{}
	since := map[identity]time.Time{}
	var order []identity
	for _, one := range s.samples {
		leader, ok := one.leader()
		if !ok {
			continue
		}
		id := identity{leader.Pod, leader.Started}
		if since[id].IsZero() {
			since[id] = one.At
			order = append(order, id)
		}
		if one.At.Sub(since[id]) >= warmUp {
			byProcess[id] = append(byProcess[id], leader)
		}
	}
	for _, id := range order {
		if len(byProcess[id]) >= leastSamples {
			terms = append(terms, byProcess[id])
		}
	}
	return terms
}

// leastSamples are enough for a median of each third.
const leastSamples = 9

// thirds returns the medians of the first and of the last third; 0 without values.
func thirds(values []float64) (first, last float64) {
	median := func(part []float64) float64 {
		if len(part) == 0 {
			return 0
		}
		part = slices.Sorted(slices.Values(part))
		return part[len(part)/2]
	}
	third := len(values) / 3
	return median(values[:third]), median(values[len(values)-third:])
}

// write writes the findings as a table.
func (r result) write(to io.Writer) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\n"+r.title)
	for _, f := range r.findings {
		mark := "ok"
		if !f.ok {
			mark = "FAILED"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\twant %s\n", mark, f.what, f.measured, f.want)
	}
	for _, why := range r.soak.failed {
		_, _ = fmt.Fprintln(table, "failed step: "+why)
	}
	return table.Flush()
}

// err returns what was not found as it should be.
func (r result) err() error {
	var errs []error
	for _, f := range r.findings {
		if !f.ok {
			errs = append(errs, fmt.Errorf("%s: %s, want %s", f.what, f.measured, f.want))
		}
	}
	return errors.Join(errs...)
}

// document writes the result into benchmarks.md of a folder, and the plot beside it.
func (r result) document(facts document.Facts, docs string) error {
	page, err := document.Open(docs)
	if err != nil {
		return err
	}
	table := [][]string{{"what", "measured", "want"}}
	for _, f := range r.findings {
		table = append(table, []string{f.what, f.measured, f.want})
	}
	page.Parts["soak"] = document.Part{
		Title: "An hour on a real cluster",
		About: "The product on the local cluster at the defaults: a pipeline of five steps every 30 seconds, in turn for a group by the steps that wait, a group of\n" +
			"ephemeral runners and a group by the share of busy runners, with webhooks. The scaler has two replicas, and the leading one is killed every\n" +
			fmt.Sprintf("%.0f minutes. %s.", r.soak.options.killEvery.Minutes(), r.title),
		Command: "`make soak`", Date: facts.Date, Commit: facts.Commit, Machine: facts.Machine, Table: table,
		Notes: []string{"![Memory and goroutines of each replica, runners and Jobs over the time](" + document.Soak + ")"},
	}
	if err := r.soak.draw(filepath.Join(docs, document.Soak)); err != nil {
		return err
	}
	return page.Save()
}
