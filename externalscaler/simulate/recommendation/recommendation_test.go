package recommendation_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/recommendation"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

func search(t *testing.T, p95 time.Duration, most int) recommendation.Search {
	t.Helper()
	group, err := runnergroup.Parse(map[string]string{"workspace": "acme", "labels": "builds", "max": "30"})
	if err != nil {
		t.Fatal(err)
	}
	day := workload.Synthetic{Shape: workload.Day, Steps: 800, Days: 1, Labels: []string{"builds"}, Seed: 1}.Make()
	morning := slices.DeleteFunc(day.Pipelines, func(p workload.Pipeline) bool { return p.At.Hour() < 8 || p.At.Hour() > 9 })
	return recommendation.Search{
		Load:   workload.New("a morning", morning),
		Groups: []simulate.Group{{Namespace: "ns", Name: "builds", Group: group}}, Options: simulate.Defaults(), P95: p95, Most: most,
	}
}

func TestTheCheapestWithinTheBoundIsRecommended(t *testing.T) {
	var last time.Duration
	for _, p95 := range []time.Duration{2 * time.Minute, 20 * time.Second, time.Second} {
		s := search(t, p95, 70)
		got, err := s.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		best := got.Best.Result
		if !got.Within || best.Wait.P95 > p95 || best.Failed > 0 {
			t.Errorf("p95 %v: got %v with a p95 of %v and %d failed steps", p95, got.Best.Settings, best.Wait.P95, best.Failed)
		}
		for _, choice := range got.Choices {
			if choice.Result.Wait.P95 <= p95 && choice.Result.RunnerTime < best.RunnerTime {
				t.Errorf("p95 %v: %v is cheaper than the recommended %v", p95, choice.Settings, got.Best.Settings)
			}
		}
		if best.RunnerTime < last {
			t.Errorf("p95 %v costs %v of runners, less than the %v with a longer wait", p95, best.RunnerTime, last)
		}
		last = best.RunnerTime
	}
}

func TestASearchIsBoundedAndRepeatable(t *testing.T) {
	s := search(t, time.Second, 12)
	first, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.Tried > 12 {
		t.Errorf("%d settings were tried, want 12 at most", first.Tried)
	}
	second, err := s.Run(t.Context())
	if diff := cmp.Diff(first, second); diff != "" || err != nil {
		t.Errorf("two searches differ (%v): %s", err, diff)
	}
}

func TestABoundThatCannotBeKeptIsSaid(t *testing.T) {
	s := search(t, time.Second, 12)
	s.Groups[0].Rules.Max = 1
	got, err := s.Run(t.Context())
	if err != nil || got.Within {
		t.Errorf("one runner for a day's work keeps p95 at %v, %v; want that it does not", got.Best.Result.Wait.P95, err)
	}
}

func TestSettingsLeaveTheRestAsItIs(t *testing.T) {
	s := search(t, 0, 0)
	applied := recommendation.Settings{Strategy: policy.QueuedSteps, Min: 50, Spare: 2, CoolDown: time.Minute, LookAhead: time.Second, ScaleUp: 0.9, ScaleDown: 0.1}.Apply(s.Groups)
	want := s.Groups[0]
	want.Rules.Strategy, want.Rules.Min, want.Rules.Spare, want.Rules.CoolDown, want.LookAhead = policy.QueuedSteps, 30, 2, time.Minute, time.Second
	want.Rules.ScaleUpThreshold, want.Rules.ScaleDownThreshold = 0.9, 0.1
	if diff := cmp.Diff(want, applied[0]); diff != "" {
		t.Error(diff)
	}
	if s.Groups[0].Rules.Min != 1 {
		t.Error("the groups of the search were changed")
	}
}
