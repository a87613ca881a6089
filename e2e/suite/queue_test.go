package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

// byQueue are the settings of a group that scales by the steps that wait in a repository.
func byQueue(repository string, settings map[string]string) map[string]string {
	all := map[string]string{"strategy": "queuedSteps", "repository": repository, "min": "1", "max": "30"}
	maps.Copy(all, settings)
	return all
}

// hook has a repository's webhook deliver to the scaler until the test ends.
func hook(t *testing.T, repository string) {
	t.Helper()
	hooks := shared.BitbucketURL + "/2.0/repositories/acme/" + repository + "/hooks"
	var made struct{ UUID string }
	hookCall(t, http.MethodPost, hooks, map[string]any{
		"description": "bitbucket-runner-scaler", "url": installation.WebhookURL, "active": true, "secret": installation.WebhookSecret,
		"events": []string{"repo:push", "repo:commit_status_created", "repo:commit_status_updated"},
	}, &made)
	t.Cleanup(func() { hookCall(t, http.MethodDelete, hooks+"/"+made.UUID, nil, nil) })
}

func hookCall(t *testing.T, method, url string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode > 299 {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
}

// created are the times at which the Jobs of a group are created, as the API server announces
// them.
type created struct {
	mu    sync.Mutex
	times []time.Time
}

// watchJobs follows the Jobs of a group until the test ends.
func watchJobs(t *testing.T, group string) *created {
	t.Helper()
	c := &created{}
	jobs, err := shared.client.BatchV1().Jobs(installation.Runners).Watch(t.Context(), metav1.ListOptions{LabelSelector: "scaledjob.keda.sh/name=" + group})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for event := range jobs.ResultChan() {
			if _, ok := event.Object.(*batchv1.Job); ok && event.Type == watch.Added {
				c.mu.Lock()
				c.times = append(c.times, time.Now())
				c.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { jobs.Stop(); reading.Wait() })
	return c
}

// after returns the times after a moment.
func (c *created) after(begun time.Time) []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.times), func(at time.Time) bool { return at.Before(begun) })
}

// inOnePoll queues steps of several groups at once, and checks that each group gets exactly its
// own runners, all in one of KEDA's polls, and that all steps pass. It returns when the first Job
// was created after that, and how long it took until the last one.
func inOnePoll(t *testing.T, repository string, counts map[string]int) (first, span time.Duration) {
	t.Helper()
	jobs := map[string]*created{}
	for name := range counts {
		group(t, name, byQueue(repository, map[string]string{"coolDown": "30s"}))
		jobs[name] = watchJobs(t, name)
	}
	for name := range counts {
		untilOnline(t, name, 1, 0)
	}
	begun := time.Now()
	var steps []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		steps = append(steps, queueIn(t, repository, name, counts[name], "20s")...)
	}
	untilWithin(t, 2*patience, "the Jobs of all groups", func() (bool, error) {
		for name, count := range counts {
			if len(jobs[name].after(begun)) < count-1 { // one runner was there
				return false, nil
			}
		}
		return true, nil
	})
	untilPassed(t, steps)
	var all []time.Time
	for name, count := range counts {
		times := jobs[name].after(begun)
		if len(times) != count-1 {
			t.Errorf("%s: %d Jobs for %d steps and one runner that was there, want %d", name, len(times), count, count-1)
			continue
		}
		all = append(all, times...)
		span := times[len(times)-1].Sub(times[0])
		t.Logf("%s: %d Jobs for %d steps from %s after the steps on, within %s", name, len(times), count, times[0].Sub(begun).Round(100*time.Millisecond), span.Round(10*time.Millisecond))
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.SortFunc(all, time.Time.Compare)
	return all[0].Sub(begun), all[len(all)-1].Sub(all[0])
}

func TestEachGroupGetsTheRunnersOfItsWaitingSteps(t *testing.T) {
	t.Parallel()
	hook(t, "api")
	inOnePoll(t, "api", map[string]int{"queued.a": 6, "queued.b": 4, "queued.c": 2})
}

func TestLongFiftyStepsOfThreeLabelSets(t *testing.T) {
	for name, hooked := range map[string]bool{"with webhooks": true, "by polls": false} {
		t.Run(name, func(t *testing.T) {
			if hooked {
				hook(t, "lib")
			}
			first, span := inOnePoll(t, "lib", map[string]int{"fifty.a": 25, "fifty.b": 15, "fifty.c": 10})
			if hooked {
				t.Attr("fifty-steps-first-Job", first.Round(100*time.Millisecond).String())
				t.Attr("fifty-steps-span", span.Round(100*time.Millisecond).String())
			}
		})
	}
}

const fiveSteps = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, LABEL], script: [sleep 5]}
    - parallel:
        - step: &test {name: Test, runs-on: [self.hosted, linux, LABEL], script: [sleep 5]}
        - step: *test
        - step: *test
    - step: {name: Deploy, runs-on: [self.hosted, linux, LABEL], script: [sleep 5]}
`

// queueCalls counts the calls to Bitbucket of one pipeline each, and those of a repository.
func queueCalls(t *testing.T) (perPipeline, perRepository int) {
	t.Helper()
	for route, n := range state(t).Counters.Calls {
		switch {
		case strings.Contains(route, "/pipelines/{"), strings.Contains(route, "/src/"):
			perPipeline += n
		case strings.HasSuffix(route, "/pipelines"):
			perRepository += n
		}
	}
	return perPipeline, perRepository
}

func TestLongTwentyPipelinesInFourRepositories(t *testing.T) {
	for name, hooked := range map[string]bool{"with webhooks": true, "by polls": false} {
		t.Run(name, func(t *testing.T) {
			repositories := []string{"api", "lib", "docs", "tools"}
			if hooked {
				for _, repository := range repositories {
					hook(t, repository)
				}
			}
			const label = "twenty"
			group(t, label, map[string]string{"strategy": "queuedSteps", "min": "1", "max": "20", "repositories": strings.Join(repositories, ",")})
			untilOnline(t, label, 1, 0)
			time.Sleep(time.Minute) // the first reads of the repositories
			one, all := queueCalls(t)
			costs := make([]int, 0, 20) // the calls until the next pipeline is pushed
			for i := range 20 {         //nolint:intrange // one every half minute
				before, _ := queueCalls(t)
				if _, err := shared.Control.Push(t.Context(), emulator.PushRequest{
					Workspace: "acme", Repository: repositories[i%4], Branch: "main", File: strings.ReplaceAll(fiveSteps, "LABEL", label),
				}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(30 * time.Second)
				after, _ := queueCalls(t)
				costs = append(costs, after-before)
			}
			until(t, "all steps to pass", func() (bool, error) {
				passed := 0
				for _, step := range state(t).Steps {
					if slices.Contains(step.Labels, label) {
						if step.Outcome == emulator.OutcomeFailed {
							t.Fatalf("step %+v", step)
						}
						if step.Outcome == emulator.OutcomePassed {
							passed++
						}
					}
				}
				return passed >= 100, nil
			})
			oneAfter, allAfter := queueCalls(t)
			calls, lists := oneAfter-one, allAfter-all
			slices.Sort(costs)
			t.Logf("20 pipelines of 5 steps in ten minutes: %d calls of a pipeline (in the median %d, at most %d), %d lists of a repository's pipelines", calls, costs[10], costs[19], lists)
			if costs[10] > 3 {
				t.Errorf("a pipeline costs %d calls in the median, want at most 3: %v", costs[10], costs)
			}
		})
	}
}
