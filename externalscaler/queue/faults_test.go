package queue

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// faults replaces the faults of Bitbucket.
func (r *rig) faults(rules ...emulator.FaultRule) {
	r.t.Helper()
	r.post("/faults", emulator.FaultRules{Rules: append([]emulator.FaultRule{}, rules...)}, nil)
}

// in is the path of a repository and what is below it.
func in(repository, below string) string { return "/2.0/repositories/*/" + repository + below }

func TestARepositoryThatIsFoundHidesNothingWhileItIsFirstRead(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(forgetAfter + 2*foundInterval)
		r.faults(emulator.FaultRule{Method: http.MethodGet, Path: in("*", "/pipelines"), Latency: "5s"})
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: web})
		r.wait(time.Second)
		if got := r.answers()[0]; !got.Pending || got.Unknown != "" {
			t.Errorf("got %+v while a repository is read for the first time, want pending", got)
		}
		r.wait(5 * time.Second)
		if got := r.answers()[0]; got.Pending || got.Unknown != "" {
			t.Errorf("got %+v after that, want all to be seen", got)
		}
	}, fleet("x", ""))
}

func TestPipelinesThatCannotBeReadAreNotTriedForEver(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		r.faults(emulator.FaultRule{Method: http.MethodGet, Path: in("*", "/pipelines/*"), Status: http.StatusForbidden})
		for build := range 60 {
			r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app, Build: 1 + build})
			r.wait(10 * time.Second)
		}
		r.wait(30 * time.Minute)
		before := r.calls("/pipelines/{")
		r.wait(time.Hour)
		if calls := r.calls("/pipelines/{") - before; calls > 12 {
			t.Errorf("%d calls in an hour in which nothing happened", calls)
		}
	}, fleet("x", ""))
}

func TestARunnersReportsCostABoundedNumberOfReads(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		steps := r.push(twoSteps)
		for name, run := range map[string]func(i int) Run{
			"unknown pipelines": func(i int) Run {
				return Run{Running: StepID{Repository: app, Pipeline: fmt.Sprintf("{33333333-3333-4333-8333-%012d}", i), Step: app}}
			},
			"failures":               func(i int) Run { return Run{Ended: steps[0], Result: fmt.Sprint("FAILED", i)} },
			"losses":                 func(i int) Run { return Run{Running: steps[i%2]} },
			"a step before its time": func(int) Run { return Run{Running: steps[1]} },
			"unknown repositories": func(i int) Run {
				return Run{Running: StepID{Repository: fmt.Sprintf("{33333333-3333-4333-8333-%012d}", i), Pipeline: app, Step: app}}
			},
			"silence": func(i int) Run {
				if i%2 == 0 {
					return Run{}
				}
				return Run{Ended: steps[0], Result: fmt.Sprint("FAILED", i)}
			},
		} {
			before := r.calls("/pipelines")
			for i := range 600 {
				r.says(0, run(i))
				r.wait(time.Second)
			}
			calls := r.calls("/pipelines") - before
			t.Logf("%s: %d calls", name, calls)
			if calls > 100 {
				t.Errorf("%s: %d calls in ten minutes for the reports of one runner", name, calls)
			}
		}
	}, fleet("x", ""))
}

func TestABriefNotFoundHidesNoStep(t *testing.T) {
	for name, path := range map[string]string{"of a repository": "/pipelines", "of a pipeline's steps": "/pipelines/*/steps", "of a file": "/src/*"} {
		t.Run(name, func(t *testing.T) {
			virtually(t, waiting(), func(r *rig) {
				r.wait(10 * time.Second)
				notFound := emulator.FaultRule{Method: http.MethodGet, Path: in(app, path), Status: http.StatusNotFound, Count: 1}
				if path == "/src/*" {
					r.faults(notFound)
				}
				r.Hint(created(app, r.steps("app", "x", 3)))
				r.wait(11 * foundInterval) // the workspace's look has seen the push
				if path != "/src/*" {
					r.faults(notFound)
				}
				r.wait(HookedInterval + confirmInterval)
				if got := r.answers()[0].Queued; got != 3 {
					t.Errorf("%d steps are queued after one answer of 404, want 3", got)
				}
			}, fleet("x", ""))
		})
	}
}

func TestAWrongEndOfAPipelineLastsUntilItIsReadAgain(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		steps := r.push(twoSteps)
		for _, step := range steps {
			r.says(0, Run{Running: step})
			r.says(0, Run{Ended: step, Result: passed})
		}
		if got := r.answers()[0].Queued; got != 0 {
			t.Errorf("%d queued after the last step, want 0", got)
		}
		r.wait(quietInterval + settle) // Bitbucket has never heard of it
		if got := r.answers()[0]; got.Queued != 1 {
			t.Errorf("got %+v, want the first step, which Bitbucket shows as waiting", got)
		}
	}, fleet("x", app))
}

func TestAChangeThatNoWebhookNamedIsLookedAt(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(time.Minute)
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app})
		r.wait(5 * time.Minute)
		var pushed emulator.Pushed // and nobody says so
		r.post("/push", emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: twoSteps}, &pushed)
		r.wait(11 * foundInterval)
		if got := r.answers()[0].Queued; got != 1 {
			t.Errorf("%d steps are queued, want the first one", got)
		}
	}, fleet("x", ""))
}

func TestTheEndOfAnotherPipelineDoesNotStandForThatOfAPush(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(time.Minute)
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app})
		r.wait(time.Minute)
		r.steps("app", "x", 1) // of which only the push is delivered
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app})
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app, Build: 7, Over: true})
		r.wait(pushDelay + time.Second)
		if got := r.answers()[0].Queued; got != 1 {
			t.Errorf("%d steps are queued, want that of the push", got)
		}
	}, fleet("x", app))
}

func TestALimitIsOverWithAnyOtherAnswer(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app}) // from now on it is not polled
		r.wait(time.Minute)
		r.faults(emulator.FaultRule{Method: http.MethodGet, Path: in(app, "/pipelines/*"), Status: http.StatusTooManyRequests, Count: 1})
		r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app, Build: 77}) // there is none
		r.wait(time.Second)
		if got := r.answers()[0].Unknown; got == "" {
			t.Error("all is known although Bitbucket limits the calls")
		}
		r.wait(5 * time.Minute)
		if got := r.answers()[0].Unknown; got != "" {
			t.Errorf("%q minutes after Bitbucket answered again", got)
		}
	}, fleet("x", app))
}

func TestPipelinesThatStayUnreadLeaveCallsForOthers(t *testing.T) {
	forbidden := emulator.FaultRule{Method: http.MethodGet, Path: in(app, "/pipelines/*"), Status: http.StatusForbidden}
	for name, c := range map[string]struct {
		parseLag time.Duration
		faults   []emulator.FaultRule
		hinted   bool
	}{
		"forbidden":              {faults: []emulator.FaultRule{forbidden}},
		"never parsed":           {parseLag: 1000 * time.Hour},
		"never parsed, and told": {parseLag: 1000 * time.Hour, hinted: true},
	} {
		t.Run(name, func(t *testing.T) {
			options := waiting()
			options.ParseLag = c.parseLag
			virtually(t, options, func(r *rig) {
				r.wait(10 * time.Second)
				r.faults(c.faults...)
				for range 60 {
					var pushed emulator.Pushed
					r.post("/push", emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: twoSteps}, &pushed)
					if c.hinted {
						r.Hint(created(app, pushed.Pipeline))
					}
				}
				r.wait(time.Hour)
				for hour := range 4 { // after two and a half hours of waiting steps fail
					before := r.calls("/")
					r.wait(time.Hour)
					if calls := r.calls("/") - before; calls > 850 {
						t.Errorf("%d calls in hour %d, want some to be left", calls, 2+hour)
					}
					if got := r.answers()[0].Unknown; strings.Contains(got, "budget") {
						t.Errorf("in hour %d: %s", 2+hour, got)
					}
				}
			}, fleet("x", app))
		})
	}
}

func TestAPipelineThatNeedsNoRunnerIsKnownAfterAFailedRead(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		r.faults(emulator.FaultRule{Method: http.MethodGet, Path: in("*", "/src/*"), Status: http.StatusServiceUnavailable, Count: 1})
		var pushed emulator.Pushed
		r.post("/push", emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: `pipelines: {default: [step: {script: [sleep 3600]}]}`}, &pushed)
		r.Hint(created(app, pushed.Pipeline))
		r.wait(time.Minute)
		if got := r.answers()[0].Unknown; got != "" {
			t.Errorf("unknown: %s", got)
		}
	}, fleet("x", app))
}

func TestStepsThatAreNotThereYetAreReadAgain(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(10 * time.Second)
		r.mu.Lock()
		client, err := r.config.Client("default", "ns")
		thin := &withoutSteps{Bitbucket: client, left: 1}
		r.config.Client = func(string, string) (Bitbucket, error) { return thin, err }
		r.mu.Unlock()
		r.Hint(created(app, r.steps("app", "x", 5)))
		for range 3 {
			r.wait(time.Second)
			if got := r.answers()[0].Unknown; got != "" {
				t.Errorf("unknown: %s", got)
			}
		}
		if got := r.answers()[0].Queued; got != 5 {
			t.Errorf("%d steps are queued three seconds later, want 5", got)
		}
	}, fleet("x", app))
}

// withoutSteps lists no steps for so many times.
type withoutSteps struct {
	Bitbucket
	left int
}

func (w *withoutSteps) Get(ctx context.Context, class bitbucket.Class, route, path string, query url.Values) ([]byte, error) {
	if strings.HasSuffix(path, "/steps") && w.left > 0 {
		w.left--
		return []byte(`{"values":[]}`), nil
	}
	return w.Bitbucket.Get(ctx, class, route, path, query)
}

func TestDeliveriesThatNameNothingLeaveCallsForOthers(t *testing.T) {
	virtually(t, waiting(), func(r *rig) {
		r.wait(time.Minute)
		before := r.calls("/")
		for minute := range 60 {
			for i := range 600 {
				r.Hint(Hint{Credentials: "default", Workspace: acme, Repository: app, Build: 1000*minute + 1000 + i})
			}
			r.wait(time.Minute)
		}
		if calls := r.calls("/") - before; calls > 500 {
			t.Errorf("%d calls in an hour for deliveries that name nothing", calls)
		}
		r.Hint(created(web, r.steps("web", "x", 2)))
		r.Hint(created(app, r.steps("app", "x", 3)))
		r.wait(ownInterval + 5*time.Second)
		if got := r.answers()[0]; got.Queued != 5 || got.Unknown != "" {
			t.Errorf("got %+v, want the steps of both repositories", got)
		}
	}, fleet("x", ""))
}

func TestDeliveriesThatSayNothingNewLeaveCallsForOthers(t *testing.T) {
	for name, over := range map[string]bool{"that it goes on": false, "that it has ended": true} {
		t.Run(name, func(t *testing.T) {
			virtually(t, waiting(), func(r *rig) {
				r.wait(10 * time.Second)
				ended := make([]string, 100)
				for i := range ended {
					ended[i] = r.steps("app", "x", 1)
				}
				r.wait(2 * missedAfter)
				for _, pipeline := range ended {
					r.post("/pipelines/"+pipeline+"/stop", nil, nil)
				}
				r.wait(time.Minute)
				live := created(app, r.push(twoSteps)[0].Pipeline)
				live.Over = over
				before := r.calls("/")
				for second := range 3600 {
					r.Hint(live)
					r.Hint(created(app, ended[second%len(ended)]))
					r.wait(time.Second)
				}
				if calls := r.calls("/") - before; calls > 400 {
					t.Errorf("%d calls in an hour for deliveries that say nothing new", calls)
				}
				if got := r.answers()[0]; got.Queued != 1 || got.Unknown != "" {
					t.Errorf("got %+v, want the first step", got)
				}
			}, fleet("x", app))
		})
	}
}
