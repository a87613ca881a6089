package controlplane_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/testbed/inprocess"
)

// fiveSeconds is how often KEDA polls in these tests.
func fiveSeconds(w *world) { w.polling = 5 * time.Second }

// api calls Bitbucket's API as a user.
func (w *world) api(method, path string) {
	w.t.Helper()
	req, err := http.NewRequest(method, bitbucketURL+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	req.SetBasicAuth("dev@example.com", "emulator-token")
	resp, err := inprocess.Transport{Handler: w.server}.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode > 299 {
		w.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

const gated = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, fleet], script: [sleep 30]}
    - parallel:
        - step: &gate {name: Gate, trigger: manual, runs-on: [self.hosted, linux, fleet], script: [sleep 90]}
        - step: *gate
        - step: *gate
`

func TestAManualStepCountsOnceItWasStarted(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(nil), works)
		w.after(5 * time.Minute)
		w.push("w0", gated)
		w.after(15 * time.Minute)
		if got := w.times(w.created, "fleet"); len(got) != 1 {
			t.Errorf("%d Jobs while the gates are closed, at %v, want 1", len(got), got)
		}
		for _, step := range w.server.State().Steps {
			if step.Outcome == "paused" {
				w.post("/steps/"+step.UUID+"/start", nil)
			}
		}
		w.after(17*time.Minute + 30*time.Second)
		if got := w.times(w.created, "fleet"); len(got) != 3 {
			t.Errorf("%d Jobs for three started steps, at %v, want 3", len(got), got)
		}
	}, fiveSeconds)
}

func TestAGroupDoesNotGrowForStepsThatWereStopped(t *testing.T) {
	virtually(t, 1, func(w *world) {
		ephemeral := byQueue(map[string]string{"ephemeral": "true", "spare": "0"})
		w.apply("fleet", "w0", ephemeral, works)
		w.after(5 * time.Minute)
		w.queue("w0", "fleet", 20, 10*time.Minute)
		w.after(5*time.Minute + 40*time.Second)
		grown := len(w.times(w.created, "fleet"))
		if grown < 20 {
			t.Fatalf("%d Jobs for 20 steps", grown)
		}
		w.api("POST", "/2.0/repositories/w0/app/pipelines/1/stopPipeline")
		for after := 65 * time.Second; after < 15*time.Minute; after += time.Second { // one read
			w.after(5*time.Minute + 40*time.Second + after)
			if note := w.shown("fleet").Note; strings.Contains(note, "queued (") {
				t.Fatalf("%s after the stop: %s", after, note)
			}
		}
		// Each runner that had a step ends. What is created then is for the minimum.
		if later := len(w.times(w.created, "fleet")); later > grown+3 {
			t.Errorf("%d Jobs before the stop, %d in all, want hardly any more", grown, later)
		}
	}, fiveSeconds)
}

func TestWhatCannotBeSeenLeavesTheRatioAsAFloor(t *testing.T) {
	for name, c := range map[string]struct {
		fault emulator.FaultRule
		file  string
		want  string
	}{
		"no permission": {fault: emulator.FaultRule{Method: "GET", Path: "/2.0/repositories/*/*/pipelines", Status: 403}, want: "the pipelines of app cannot be read"},
		"an outage":     {fault: emulator.FaultRule{Method: "GET", Path: "*/steps", Status: 503}, want: "cannot be read"},
		"throttled":     {fault: emulator.FaultRule{Method: "GET", Path: "/2.0/repositories/*/*/pipelines", Status: 429}, want: "not all of the queue can be seen"},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 1, func(w *world) {
				w.apply("fleet", "w0", byQueue(nil), works)
				w.after(5 * time.Minute)
				w.faults(c.fault)
				w.queue("w0", "fleet", 8, 20*time.Minute)
				w.after(15 * time.Minute)
				if note := w.shown("fleet").Note; !strings.Contains(note, c.want) {
					t.Errorf("note %q, want %q in it", note, c.want)
				}
				if got := w.outcomes(); got["running"] != 8 {
					t.Errorf("outcomes %v, want 8 running: the ratio grows the group", got)
				}
				w.faults()
				w.after(20 * time.Minute)
				if note := w.shown("fleet").Note; strings.Contains(note, "cannot be seen") {
					t.Errorf("note %q after the fault", note)
				}
			}, fiveSeconds)
		})
	}
}

func TestARestartNeitherGrowsNorShrinksAGroup(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(nil), works)
		w.after(5 * time.Minute)
		w.queue("w0", "fleet", 6, 20*time.Minute)
		w.after(10 * time.Minute)
		w.restart()
		w.after(15 * time.Minute)
		if got := len(w.times(w.created, "fleet")); got != 6 {
			t.Errorf("%d Jobs, want 6", got)
		}
		w.after(28 * time.Minute)
		if got := w.outcomes(); got["passed"] != 6 {
			t.Errorf("outcomes %v, want 6 passed", got)
		}
	}, fiveSeconds)
}

func TestAWorkspacesRepositoriesAreFound(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", map[string]string{"strategy": "queuedSteps", "max": "50"}, works)
		w.after(5 * time.Minute)
		w.queue("w0", "fleet", 20, 5*time.Minute)
		w.after(7 * time.Minute)
		if got := len(w.times(w.created, "fleet")); got != 20 {
			t.Errorf("%d Jobs for 20 steps two minutes later, want 20", got)
		}
		before := w.queueCalls()
		w.after(2 * time.Hour)
		after := w.queueCalls()
		if calls := after["of a repository"] - before["of a repository"]; calls > 300 {
			t.Errorf("%d calls in the two hours after", calls)
		}
	}, fiveSeconds)
}

func TestAStepThatNobodyServesIsReportedOnce(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("builds", "w0", byQueue(nil), works)
		w.after(5 * time.Minute)
		// The first step is served, so that the pipeline lives long enough to be found by a poll.
		w.push("w0", strings.Replace(strings.ReplaceAll(fanOut, "fleet", "buids"), "buids", "builds", 1))
		w.after(20 * time.Minute)
		events := w.events("builds", "StepNotServed")
		if len(events) != 1 {
			t.Fatalf("%d Events, want 1: %v", len(events), events)
		}
		for _, want := range []string{`step "Test" of app build 1`, "self.hosted, linux, buids", "lacks buids (this group has builds)"} {
			if !strings.Contains(events[0].Message, want) {
				t.Errorf("Event %q, want %q in it", events[0].Message, want)
			}
		}
		if got := len(w.times(w.created, "builds")); got != 1 {
			t.Errorf("%d Jobs, want the minimum alone", got)
		}
	}, fiveSeconds)
}
