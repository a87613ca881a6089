package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/e2e/bench/document"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/report"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

const (
	// stepsPerDay, mostAtAll and mostTight are those of the workloads.
	stepsPerDay          = 3000
	mostAtAll, mostTight = 100, 20
	label                = "builds"
)

// others are who is compared with queuedSteps, by name.
type other struct {
	name   string
	scaler simulate.Scaler
}

var (
	ours        = other{"queuedSteps", simulate.Ours{}}
	clairvoyant = other{"clairvoyant", simulate.Clairvoyant{}}
)

func incumbentAt(seconds int) other {
	return other{fmt.Sprintf("runners-autoscaler, %d s", seconds), simulate.Incumbent{Interval: time.Duration(seconds) * time.Second}}
}

// play simulates a workload with one group.
func play(ctx context.Context, load workload.Workload, who other, most int, options simulate.Options) (simulate.Result, error) {
	settings := map[string]string{"workspace": "acme", "labels": label, "max": strconv.Itoa(most)}
	if who.name == ours.name {
		settings["strategy"] = "queuedSteps"
	}
	group, err := runnergroup.Parse(settings)
	if err != nil {
		return simulate.Result{}, fmt.Errorf("a group of %s: %w", who.name, err)
	}
	return simulate.Run(ctx, load, simulate.Configuration{Name: who.name, Groups: []simulate.Group{{Namespace: "ns", Name: label, Group: group}}, Scaler: who.scaler}, options)
}

func made(shape workload.Shape) workload.Workload {
	return workload.Synthetic{Shape: shape, Steps: stepsPerDay, Days: 1, Labels: []string{label}, Seed: 1}.Make()
}

// simulated compares the waits with those of the clairvoyant, and the idle hours with the incumbent's.
func (r *run) simulated(ctx context.Context) error {
	part := document.Part{
		Title: "Simulated waits and idle hours",
		About: fmt.Sprintf("`queuedSteps` with its defaults on the four workloads of [the strategies](#strategies-on-four-workloads), with `max` %d and, so that even the clairvoyant scheduler lets steps wait, %d.", mostAtAll, mostTight),
		Table: [][]string{{"workload", "max", "wait p95", "of the clairvoyant", "idle runner hours", "of runners-autoscaler at 600 s", "its wait p95"}},
	}
	worstWait, worstIdle, waitOf, idleOf := 0.0, 0.0, "", ""
	for _, shape := range workload.Shapes() {
		load := made(shape)
		for _, most := range []int{mostAtAll, mostTight} {
			var results [3]simulate.Result
			for i, who := range []other{ours, clairvoyant, incumbentAt(600)} {
				var err error
				if results[i], err = play(ctx, load, who, most, simulate.Defaults()); err != nil {
					return err
				}
			}
			own, best, them := results[0], results[1], results[2]
			part.Table = append(part.Table, []string{
				string(shape), strconv.Itoa(most), report.Wait(own.Wait.P95), report.Wait(best.Wait.P95), fmt.Sprintf("%.0f", own.IdleTime.Hours()), fmt.Sprintf("%.0f", them.IdleTime.Hours()), report.Wait(them.Wait.P95),
			})
			if times := float64(own.Wait.P95) / float64(best.Wait.P95); best.Wait.P95 > 0 && times > worstWait {
				worstWait, waitOf = times, fmt.Sprintf("%s with `max` %d", shape, most)
			}
			if share := float64(own.IdleTime) / float64(them.IdleTime); most == mostAtAll && share > worstIdle {
				worstIdle, idleOf = share, string(shape)
			}
		}
	}
	part.Rows = []document.Row{
		goal("simulated queue wait p95 against the clairvoyant scheduler, where that one lets steps wait: worst workload", worstWait, 1.1, "%.2f times", waitOf,
			"Where `max` leaves room, the clairvoyant lets no step wait, because it boots runners before they are asked for; a step that nobody could foresee waits for the boot of 30 s and the poll. `lookAhead` and `spare` shorten that."),
		goal("simulated idle runner hours against the rule of runners-autoscaler at 600 s: worst workload", worstIdle, 0.5, "%.2f", idleOf,
			"That tool has fewer idle hours there because it has fewer runners: 5 % of the steps then wait as long as the last column shows. A shorter `coolDown` lowers our idle hours."),
	}
	return r.write("simulated", part)
}

// burst is 50 steps at once, each of five minutes.
func burst() workload.Workload {
	at := time.Date(2026, 1, 5, 9, 10, 0, 0, time.UTC)
	all := make([]workload.Pipeline, 50)
	for i := range all {
		all[i] = workload.Pipeline{At: at, Steps: []workload.Step{{Name: "step", Labels: pipelines.Runner("linux", label), Duration: 5 * time.Minute}}}
	}
	return workload.New("50 steps at once", all)
}

// incumbent compares with the incumbent's polling rule at several intervals.
func (r *run) incumbent(ctx context.Context) error {
	part := document.Part{
		Title: "The incumbent's polling rule",
		About: "A [model](simulate.md#the-others) of Atlassian's runners-autoscaler 3.7 at its default interval of 600 s, at the 120 s that its documentation recommends at least, and at 15 s, on the same workloads in the simulator. " +
			"The reaction is how long steps wait if a runner starts at once, so that only the scaler lets them wait. The overshoot is that of 50 steps at once, each of five minutes, with `max` 10, `min` 1 and runners that start in 60 s.",
		Table: [][]string{{"workload", "scaler", "reaction p50", "p95", "most", "calls to Bitbucket per hour", "steps that found no runner", "killed builds"}},
		Notes: []string{
			"runners-autoscaler does not count the runners that are starting. At 600 and 120 s they are online by its next poll; at 15 s it creates them again at each poll until they are. An hour has 1,000 calls for all groups of a credential, and this is one group.",
			"The model kills no build, to the tool's favour: by its code the tool disables idle runners, and the model lets one that took a step in the meantime finish it. Whether the tool does is not verified. Its users ask that no busy runner be killed, so it seems to happen; it was not reproduced here.",
		},
	}
	who := []other{ours, incumbentAt(600), incumbentAt(120), incumbentAt(15)}
	at := simulate.Defaults()
	at.Boot = simulate.Span{Least: time.Millisecond, Most: time.Millisecond}
	for _, shape := range workload.Shapes() {
		load := made(shape)
		for _, one := range who {
			result, err := play(ctx, load, one, mostAtAll, at)
			if err != nil {
				return err
			}
			part.Table = append(part.Table, []string{
				string(shape), one.name, report.Wait(result.Wait.P50), report.Wait(result.Wait.P95), report.Wait(result.Wait.Max),
				fmt.Sprintf("%.0f", float64(result.AllCalls())/result.Elapsed.Hours()), strconv.Itoa(result.Failed), strconv.Itoa(result.Killed),
			})
		}
	}
	slow := simulate.Defaults()
	slow.Boot = simulate.Span{Least: time.Minute, Most: time.Minute}
	var peaks []string
	for _, one := range who {
		result, err := play(ctx, burst(), one, 10, slow)
		if err != nil {
			return err
		}
		peaks = append(peaks, fmt.Sprintf("%s %d", one.name, result.Peak))
	}
	part.Notes = append([]string{"Most runners at a time in the burst, of which 10 are allowed: " + strings.Join(peaks, "; ") + "."}, part.Notes...)
	return r.write("incumbent", part)
}
