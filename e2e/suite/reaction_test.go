package suite

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

// percentile returns a percentile of sorted durations.
func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))].Round(10 * time.Millisecond)
}

// TestLongReaction measures the time from a step that waits to the creation of its Job. The steps
// are long, so that each needs a runner of its own.
func TestLongReaction(t *testing.T) {
	for _, c := range []struct {
		name       string
		repository string
		hooked     bool
		fanOut     bool // the steps that count follow another one on one of our runners
		polling    time.Duration
	}{
		{"webhook, 5 s", "api", true, false, 5 * time.Second},
		{"webhook, 2 s", "lib", true, false, 2 * time.Second},
		{"report of a runner, 5 s", "docs", true, true, 5 * time.Second},
		{"report of a runner, 2 s", "tools", true, true, 2 * time.Second},
		{"polls alone, 5 s", "app", false, false, 5 * time.Second},
		{"polls alone, 2 s", "web", false, false, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			label := fmt.Sprintf("react.%s", c.repository)
			if c.hooked {
				hook(t, c.repository)
			}
			name := strings.ReplaceAll(label, ".", "-")
			edited(t, installation.Edit{Name: name, PollingInterval: c.polling, Metadata: byQueue(c.repository, map[string]string{"labels": label, "max": "70"})})
			jobs := watchJobs(t, name)
			untilOnline(t, label, 1, 0)
			queueIn(t, c.repository, label, 1, "30m") // keeps the first runner busy
			untilOnline(t, label, 1, 1)
			time.Sleep(30 * time.Second)
			begun := time.Now()
			before := allowance(t)
			took := react(t, c.repository, label, c.fanOut, func() []time.Time { return jobs.after(begun) })
			slices.Sort(took)
			t.Logf("%s: %s before, %s after", c.name, before, allowance(t))
			t.Logf("%s: %d steps, from waiting to the Job: p50 %s, p90 %s, p95 %s, p99 %s, most %s", c.name, len(took),
				percentile(took, 0.5), percentile(took, 0.9), percentile(took, 0.95), percentile(took, 0.99), took[len(took)-1].Round(10*time.Millisecond))
			key := "reaction-" + strings.NewReplacer(", ", "-", " s", "s", " ", "-").Replace(c.name)
			t.Attr(key+"-p50", percentile(took, 0.5).String())
			t.Attr(key+"-p95", percentile(took, 0.95).String())
			if goal := c.polling + time.Second; c.hooked && percentile(took, 0.95) > goal {
				t.Errorf("p95 is %s, want at most %s", percentile(took, 0.95), goal)
			}
		})
	}
}

// react pushes pipelines of long steps, and returns how long each waited for its Job: a pipeline
// of one step every few seconds or, for a fan-out, one of a short step and five long ones.
func react(t *testing.T, repository, label string, fanOut bool, jobs func() []time.Time) (took []time.Duration) {
	t.Helper()
	long := "step: {name: Long, runs-on: [self.hosted, linux, " + label + "], script: [sleep 1800]}"
	file, count, perPipeline, every := "pipelines: {default: ["+long+"]}", 50, 1, 3*time.Second
	if fanOut {
		file = "pipelines:\n  default:\n    - step: {name: Short, runs-on: [self.hosted, linux, " + label + "], script: [sleep 1]}\n    - parallel:\n" + strings.Repeat("        - "+long+"\n", 5)
		count, perPipeline, every = 13, 5, 12*time.Second // one of the five has the runner of the short step
	}
	pipelines := map[string]bool{}
	for range count {
		pushed, err := shared.Control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: repository, Branch: "main", File: file})
		if err != nil {
			t.Fatal(err)
		}
		pipelines[pushed.Pipeline] = true
		time.Sleep(every)
	}
	untilWithin(t, 2*patience, "a Job for each step", func() (bool, error) { return len(jobs()) >= count*perPipeline, nil })
	needs := newRunners(state(t).Steps, pipelines)
	created := jobs()
	if len(created) != len(needs) {
		t.Errorf("%d Jobs for %d steps that need a runner of their own", len(created), len(needs))
	}
	for i, need := range needs[:min(len(needs), len(created))] {
		if !fanOut || need.follows {
			took = append(took, created[i].Sub(need.since))
		}
	}
	for pipeline := range pipelines {
		if err := shared.Control.StopPipeline(t.Context(), pipeline); err != nil {
			t.Error(err)
		}
	}
	return took
}

// need is the moment from which a pipeline needs one runner more.
type need struct {
	since   time.Time
	follows bool // when a step of the pipeline ended, not when it was pushed
}

// newRunners returns the moments from which pipelines need another runner, oldest first: each step
// that waits is one, but of the steps that follow another one the first is not, for the runner
// of that one takes a step at once.
func newRunners(steps []emulator.StepInfo, pipelines map[string]bool) (needs []need) {
	first := map[string]time.Time{}
	for _, s := range steps {
		if at, ok := first[s.PipelineUUID]; !ok || s.QueuedOn.Before(at) {
			first[s.PipelineUUID] = s.QueuedOn
		}
	}
	reused := map[string]bool{}
	for _, s := range steps {
		follows := s.QueuedOn.After(first[s.PipelineUUID])
		switch {
		case !pipelines[s.PipelineUUID]:
		case follows && !reused[s.PipelineUUID]:
			reused[s.PipelineUUID] = true
		default:
			needs = append(needs, need{since: s.QueuedOn, follows: follows})
		}
	}
	slices.SortFunc(needs, func(a, b need) int { return a.since.Compare(b.since) })
	return needs
}

// allowance returns how many calls to Bitbucket the leader has left in the rolling hour, as its
// metrics say.
func allowance(t *testing.T) string {
	t.Helper()
	_, leader := replicas(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s:8080/metrics", leader.Status.PodIP), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if strings.Contains(line, "api_budget_remaining{") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("no budget among the metrics")
	return ""
}
