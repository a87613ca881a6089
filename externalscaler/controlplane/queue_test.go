package controlplane_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// byQueue are the settings of a group that scales by the queue of the repository app.
func byQueue(settings map[string]string) map[string]string {
	all := map[string]string{"repository": "app", "strategy": "queuedSteps", "min": "1", "max": "50"}
	maps.Copy(all, settings)
	return all
}

// push pushes a file to the repository app, which starts its pipeline.
func (w *world) push(workspace, file string) {
	w.t.Helper()
	w.post("/push", emulator.PushRequest{Workspace: workspace, Repository: "app", Branch: "main", File: file})
}

// outcomes counts the steps by their outcome.
func (w *world) outcomes() map[string]int {
	count := map[string]int{}
	for _, step := range w.server.State().Steps {
		count[step.Outcome]++
	}
	return count
}

// queueCalls are the calls so far that read the queue.
func (w *world) queueCalls() map[string]int {
	calls := map[string]int{}
	for route, n := range w.server.State().Counters.Calls {
		for _, part := range []string{"/src/", "/pipelines/{", "/steps"} {
			if strings.Contains(route, part) {
				calls["of a pipeline"] += n
				break
			}
		}
		if strings.HasSuffix(route, "/pipelines") || strings.HasSuffix(route, "/repositories/{workspace}") {
			calls["of a repository"] += n
		}
	}
	return calls
}

func TestEachGroupAsksForTheStepsThatWaitForItInOnePoll(t *testing.T) {
	virtually(t, 1, func(w *world) {
		counts := map[string]int{"small": 10, "large": 15, "arm": 25}
		for name := range counts {
			w.apply(name, "w0", byQueue(nil), works)
		}
		const start = 5 * time.Minute
		w.after(start)
		for name, count := range counts {
			w.queue("w0", name, count, 2*time.Minute)
		}
		w.after(start + time.Minute)
		for name, count := range counts {
			// One runner was there.
			late := slices.DeleteFunc(w.times(w.created, name), func(at time.Duration) bool { return at < start })
			if len(late) != count-1 {
				t.Errorf("%s: %d Jobs were created for %d steps and one runner that is there, want %d", name, len(late), count, count-1)
			} else if late[0] != late[len(late)-1] {
				t.Errorf("%s: Jobs were created from %s to %s, want all in one poll", name, late[0], late[len(late)-1])
			}
		}
		w.after(start + 6*time.Minute)
		if got := w.outcomes(); got["passed"] != 50 {
			t.Errorf("outcomes %v, want 50 passed", got)
		}
		for name, count := range counts {
			if late := len(w.times(w.created, name)); late != count {
				t.Errorf("%s: %d Jobs in all, want %d", name, late, count)
			}
		}
	}, func(w *world) { w.polling = 5 * time.Second })
}

const fanOut = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, fleet], script: [sleep 60]}
    - parallel:
        - step: &test {name: Test, runs-on: [self.hosted, linux, fleet], script: [sleep 60]}
        - step: *test
        - step: *test
        - step: *test
    - step: {name: Deploy, runs-on: [self.hosted, linux, fleet], script: [sleep 60]}
`

func TestAPipelineCostsThreeCallsWhateverItsLength(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(nil), works)
		w.after(5 * time.Minute)
		before := w.queueCalls()
		w.push("w0", fanOut)
		w.after(15 * time.Minute)
		if got := w.outcomes(); got["passed"] != 6 {
			t.Errorf("outcomes %v, want 6 passed", got)
		}
		after := w.queueCalls()
		calls := after["of a pipeline"] - before["of a pipeline"]
		t.Attr("calls-per-pipeline", strconv.Itoa(calls))
		if calls > 3 {
			t.Errorf("the pipeline cost %d calls, want at most 3 (all: %v)", calls, w.server.State().Counters.Calls)
		}
		created := slices.DeleteFunc(w.times(w.created, "fleet"), func(at time.Duration) bool { return at > 10*time.Minute })
		if len(created) != 4 {
			t.Errorf("%d Jobs were created, at %v, want 4: as many as steps run side by side", len(created), created)
		}
	}, func(w *world) { w.polling = 5 * time.Second })
}

func TestOldSidecarsAreReadAfter(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(nil), works)
		w.after(5 * time.Minute)
		w.push("w0", fanOut)
		w.after(15 * time.Minute)
		if got := w.outcomes(); got["passed"] != 6 {
			t.Errorf("outcomes %v, want 6 passed", got)
		}
		if created := w.times(w.created, "fleet"); len(created) != 4 {
			t.Errorf("%d Jobs were created, at %v, want 4", len(created), created)
		}
	}, func(w *world) { w.polling, w.oldSidecars = 5*time.Second, true })
}

const build10 = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, fleet], script: [sleep 60]}
    - parallel:
        - step: &test {name: Test, runs-on: [self.hosted, linux, fleet], script: [sleep 30]}
        - step: *test
        - step: *test
        - step: *test
        - step: *test
        - step: *test
        - step: *test
        - step: *test
        - step: *test
        - step: *test
`

func TestWithLookAheadAFanOutFindsItsRunners(t *testing.T) {
	median := map[string]time.Duration{}
	for _, lookAhead := range []string{"0s", "40s"} {
		virtually(t, 1, func(w *world) {
			w.apply("fleet", "w0", byQueue(map[string]string{"lookAhead": lookAhead, "coolDown": "60s"}), works)
			for i := range 3 { // the first ones show how long the steps take
				w.after(time.Duration(5+15*i) * time.Minute)
				w.push("w0", build10)
			}
			w.after(50 * time.Minute)
			if got := w.outcomes(); got["passed"] != 33 {
				t.Errorf("outcomes %v, want 33 passed", got)
			}
			var last []time.Duration
			for _, step := range w.server.State().Steps {
				if step.Duration == "30s" && step.QueuedOn.Sub(w.begun) > 35*time.Minute {
					last = append(last, step.StartedOn.Sub(step.QueuedOn))
				}
			}
			slices.Sort(last)
			median[lookAhead] = last[len(last)/2]
			if got, want := len(w.times(w.created, "fleet")), 1+3*9; got != want {
				t.Errorf("with look-ahead %s %d Jobs were created, want %d", lookAhead, got, want)
			}
		}, func(w *world) { w.polling = 5 * time.Second })
	}
	t.Attr("fan-out-with-look-ahead", median["40s"].Round(100*time.Millisecond).String())
	t.Attr("fan-out-without-look-ahead", median["0s"].Round(100*time.Millisecond).String())
	if median["40s"] > 6*time.Second || median["0s"] < 20*time.Second {
		t.Errorf("got %v, want almost none with look-ahead, and the start of a runner without", median)
	}
}
