package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// waiting are the emulator's options with which steps wait though no runner is online.
func waiting() emulator.Options { return emulator.Options{WaitOffline: true, RateLimit: -1} }

func created(repository, pipeline string) Hint {
	return Hint{Credentials: "default", Workspace: acme, Repository: repository, Pipeline: pipeline}
}

func TestAHintedPipelineIsReadAtOnceWithThreeCalls(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		before, lists := r.calls("/pipelines/{")+r.calls("/src/"), r.calls("/{repo_slug}/pipelines")
		r.Hint(created(app, r.steps("app", "x", 5)))
		r.wait(100 * time.Millisecond)
		if got := r.answers()[0]; got.Queued != 5 || got.From != "5 of app build 1" {
			t.Errorf("got %+v, want 5 steps of build 1", got)
		}
		if calls := r.calls("/pipelines/{") + r.calls("/src/") - before; calls != 3 {
			t.Errorf("%d calls, want 3", calls)
		}
		if more := r.calls("/{repo_slug}/pipelines") - lists - 2; more != 0 { // the two above are below it
			t.Errorf("%d lists, want none", more)
		}
	}, fleet("x", app))
}

func TestARepositoryThatNobodyTouchesCostsNothingWhileWebhooksArrive(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(time.Minute)
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: web})
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app})
		r.wait(time.Minute)
		before := r.calls("/pipelines")
		for range 120 {
			r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app, Build: 1, Over: true})
			r.wait(time.Minute)
		}
		if calls := r.calls("/pipelines") - before; calls != 0 {
			t.Errorf("%d calls in two hours in which nothing happened, want none", calls)
		}
		r.wait(3 * time.Hour) // silence may be a webhook that was removed
		if calls := r.calls("/pipelines") - before; calls == 0 || calls > 2*3*12 {
			t.Errorf("%d calls in the three silent hours after that, want a few", calls)
		}
	}, fleet("x", ""), func() Group { g := fleet("y", ""); g.Repositories = []string{"app", "web"}; return g }())
}

func TestAWebhookThatDoesNotArriveAnyMoreIsMissed(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(time.Minute)
		r.Hint(created(app, r.steps("app", "x", 1)))
		r.wait(time.Minute)
		r.steps("app", "x", 2) // nobody says so
		r.wait(2 * HookedInterval)
		if got := r.answers()[0].Queued; got != 3 {
			t.Errorf("%d steps are queued, want 3: a live repository is listed now and then", got)
		}
		r.steps("app", "x", 4)
		r.wait(hotInterval + time.Second)
		if got := r.answers()[0].Queued; got != 7 {
			t.Errorf("%d steps are queued, want 7: it is listed often once a webhook was missed", got)
		}
	}, fleet("x", app))
}

func TestHintsAreForRepositoriesOfGroupsAlone(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		before := r.calls("/pipelines")
		for _, h := range []Hint{
			{Credentials: "other", Workspace: acme, Repository: app, Build: 1},
			{Credentials: "default", Workspace: acme, Repository: web, Build: 1},
			{Credentials: "default", Workspace: web, Repository: app, Build: 1},
			{Credentials: "default", Workspace: "acme", Repository: "../app", Build: 1},
		} {
			r.Hint(h)
		}
		r.wait(time.Second)
		if got := r.Counts(); got.Dropped != 4 || got.Hints != 1 && got.Hints != 0 {
			t.Errorf("counts %+v, want 4 dropped", got)
		}
		if calls := r.calls("/pipelines") - before; calls != 0 {
			t.Errorf("%d calls", calls)
		}
	}, fleet("x", app))
}

func TestAFloodOfHintsCostsABoundedNumberOfReads(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		for i := range 10000 {
			r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app, Build: 1000 + i})
		}
		for _, s := range r.sets {
			for _, known := range s.repositories {
				if len(known.hints) > mostHints {
					t.Errorf("%d hints are kept, want at most %d", len(known.hints), mostHints)
				}
			}
		}
		r.wait(time.Hour)
		if calls := r.calls("/"); calls > 1000 {
			t.Errorf("%d calls in an hour, want at most the budget", calls)
		}
		if got := r.answers()[0].Unknown; got != "" && !strings.Contains(got, "budget") {
			t.Errorf("unknown: %s", got)
		}
	}, fleet("x", app))
}

func TestAForgedEndHidesNothing(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		pipeline := r.steps("app", "x", 3)
		r.Hint(created(app, pipeline))
		r.wait(time.Second)
		forged := created(app, pipeline)
		forged.Over = true
		for range 10 {
			r.Hint(forged)
			r.wait(time.Second)
			if got := r.answers()[0].Queued; got != 3 {
				t.Fatalf("%d steps are queued, want 3", got)
			}
		}
	}, fleet("x", app))
}

func TestManyRepositoriesAreBounded(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		for i := range mostRepositories + 500 {
			r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: fmt.Sprintf("{33333333-3333-4333-8333-%012d}", i)})
		}
		r.wait(time.Millisecond)
		for _, s := range r.sets {
			if len(s.repositories) > mostRepositories {
				t.Errorf("%d repositories are kept, want at most %d", len(s.repositories), mostRepositories)
			}
		}
	}, fleet("x", ""))
}

func TestReadsWaitForBitbucketToParse(t *testing.T) {
	virtually(t, emulator.Options{WaitOffline: true, RateLimit: -1, ParseLag: 3 * time.Second}, func(r *rig) {
		r.wait(10 * time.Second)
		var calls []int
		for build := range 20 {
			var pushed emulator.Pushed
			r.post("/push", emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: twoSteps}, &pushed)
			before := r.calls("/pipelines/{") + r.calls("/src/")
			r.Hint(created(app, pushed.Pipeline))
			r.wait(3*time.Second + parseFloor)
			if got := r.answers()[0].Queued; build > 0 && got != build+1 { // the first one is not expected
				t.Errorf("%d steps are queued half a second after the file was parsed, want %d", got, build+1)
			}
			r.wait(5 * time.Second)
			calls = append(calls, r.calls("/pipelines/{")+r.calls("/src/")-before)
		}
		slices.Sort(calls)
		if calls[10] > 3 {
			t.Errorf("pipelines cost %v calls, want 3 in the median", calls)
		}
	}, fleet("x", app))
}

// A runner that is there may report its step before the pipeline is read that a delivery names.
func TestAPipelineThatARunnerReportsTooIsReadOnce(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		r.Hint(created(app, r.steps("app", "x", 1))) // webhooks arrive
		r.wait(time.Second)
		before := r.calls("/pipelines/{") + r.calls("/src/")
		pipeline := r.steps("app", "x", 2)
		for _, step := range r.server.State().Steps {
			if step.PipelineUUID == pipeline {
				r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app, Build: 2})
				r.says(0, Run{Running: StepID{Repository: app, Pipeline: pipeline, Step: step.UUID}})
				break
			}
		}
		r.wait(5 * time.Second)
		if calls := r.calls("/pipelines/{") + r.calls("/src/") - before; calls != 3 {
			t.Errorf("%d calls, want 3", calls)
		}
		r.wait(HookedInterval + missedAfter)
		for _, s := range r.sets {
			for _, known := range s.repositories {
				if known.hookedSince.IsZero() {
					t.Error("a webhook counts as missed, although it has named the pipeline")
				}
			}
		}
	}, fleet("x", app))
}

func TestAPipelineThatCannotBeReadWhileItIsParsedIsReadLater(t *testing.T) {
	virtually(t, emulator.Options{WaitOffline: true, RateLimit: -1, ParseLag: 4 * time.Second}, func(r *rig) {
		r.wait(10 * time.Second)
		var pushed emulator.Pushed
		r.post("/push", emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: twoSteps}, &pushed)
		r.Hint(created(app, pushed.Pipeline))
		r.wait(100 * time.Millisecond) // it is PARSING
		r.post("/faults", emulator.FaultRules{Rules: []emulator.FaultRule{{Method: "GET", Path: "*/pipelines/*", Status: 503}}}, nil)
		r.wait(2 * time.Second)
		r.post("/faults", emulator.FaultRules{}, nil)
		r.wait(retryBase + 4*time.Second)
		if got := r.answers()[0]; got.Queued != 1 || got.From != "1 of app build 1" {
			t.Errorf("got %+v, want the first step", got)
		}
	}, fleet("x", app))
}
