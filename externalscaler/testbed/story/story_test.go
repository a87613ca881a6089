package story

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

var settings = Settings{Pace: time.Second, Poll: time.Second, Webhooks: true, Patience: 2 * time.Minute}

// each applies a change to the jobs of a group.
func each(v *View, group string, change func(i int, job *Job)) {
	v.Jobs[group] = slices.Clone(v.Jobs[group])
	for i := range v.Jobs[group] {
		change(i, &v.Jobs[group][i])
	}
}

func step(name string, change func(*emulator.StepInfo)) func(*stage) {
	return func(s *stage) {
		s.fault = func(v *View, _ time.Time) {
			for i := range v.Bitbucket.Steps {
				if v.Bitbucket.Steps[i].Name == name {
					change(&v.Bitbucket.Steps[i])
				}
			}
		}
	}
}

func TestStorySucceedsOnlyIfAllIsAsItShouldBe(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*stage)
		want  string // in the error; empty: none
	}{
		"no fault":          {func(*stage) {}, ""},
		"a look fails once": {func(s *stage) { s.failures = 1 }, ""},
		"every look fails":  {func(s *stage) { s.failures = 1 << 20 }, errLook.Error()},
		"a step failed": {step("API", func(s *emulator.StepInfo) {
			if s.Outcome == emulator.OutcomePassed {
				s.Outcome = emulator.OutcomeFailed
			}
		}), "of 10 steps 9 passed"},
		"a step is never run": {step("Links", func(s *emulator.StepInfo) { s.Outcome = emulator.OutcomeQueued }), `waited for "acme/web runs beside it" (1 wait, 0 run, 2 passed)`},
		"a busy runner deleted": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) {
				if !s.started.IsZero() {
					v.Bitbucket.Counters.BusyRunnersDeleted++
				}
			}
		}, "1 busy runners deleted"},
		"the minimum is missing": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) {
				if len(v.Groups) > 0 {
					v.Groups[0].Runners = nil
				}
			}
		}, `waited for "The minimum of each group"`},
		"the surplus stays": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) {
				if s.removed.IsZero() {
					v.Jobs["tests"] = append(v.Jobs["tests"], Job{Name: "surplus"})
				}
			}
		}, `waited for "The surplus is retired" (1 too many`},
		"the orphan stays": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) {
				v.Bitbucket.Runners = append(v.Bitbucket.Runners, emulator.RunnerInfo{UUID: "{orphan}"})
			}
		}, `waited for "An orphan is removed"`},
		"a runner remains": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) {
				v.Bitbucket.Runners = append(v.Bitbucket.Runners, emulator.RunnerInfo{UUID: "{left}"})
			}
		}, `waited for "The ScaledJobs are deleted" (0 Jobs end, 1 runners deregister)`},
		"a burst grows by halves": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) {
				each(v, "tests", func(i int, job *Job) { job.CreatedOn = job.CreatedOn.Add(time.Duration(i) * 700 * time.Millisecond) })
			}
		}, "were created in 3 polls, want one poll"},
		"a burst gets no Job": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) { v.Jobs["tests"] = v.Jobs["tests"][:min(1, len(v.Jobs["tests"]))] }
		}, "no Job was created for the tests"},
		"webhooks are not heard": {func(s *stage) {
			s.fault = func(v *View, _ time.Time) { v.Jobs["builds"] = v.Jobs["builds"][:min(1, len(v.Jobs["builds"]))] }
		}, "no Job was created for a step that only webhooks tell of"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage()
				c.fault(s)
				var out bytes.Buffer
				err := Run(t.Context(), s, s, settings, &out)
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("got %v, want %q in\n%s", err, c.want, &out)
				}
			})
		})
	}
}

// Without webhooks the scaler learns of steps by polling, which the story does not time.
func TestWithoutWebhooksNoJobIsExpectedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, polling := newStage(), settings
		polling.Webhooks = false
		s.fault = func(v *View, _ time.Time) { v.Jobs["builds"] = v.Jobs["builds"][:min(1, len(v.Jobs["builds"]))] }
		if err := Run(t.Context(), s, s, polling, io.Discard); err != nil {
			t.Error(err)
		}
	})
}

// Two pipelines may begin to wait at nearly the same time. Each of them has a poll.
func TestBurstsOfTwoPipelinesHaveAPollEach(t *testing.T) {
	begun := time.Date(2026, 11, 26, 13, 0, 0, 0, time.UTC)
	p := &player{settings: settings, jobs: map[string][]Job{"tests": {
		{"a", begun.Add(900 * time.Millisecond)}, {"b", begun.Add(910 * time.Millisecond)}, {"c", begun.Add(1900 * time.Millisecond)},
	}}}
	for range fanOut {
		p.view.Bitbucket.Steps = append(p.view.Bitbucket.Steps, emulator.StepInfo{Repository: app, Labels: []string{"tests"}, QueuedOn: begun, StartedOn: begun.Add(4 * time.Second)})
	}
	if _, err := p.burst(); err == nil || !strings.Contains(err.Error(), "in 2 polls, want one") {
		t.Errorf("one pipeline: got %v", err)
	}
	p.view.Bitbucket.Steps = append(p.view.Bitbucket.Steps, emulator.StepInfo{Repository: web, Labels: []string{"tests"}, QueuedOn: begun.Add(time.Second), StartedOn: begun.Add(3 * time.Second)})
	if b, err := p.burst(); err != nil || b.String() != "3 Jobs in one poll for each pipeline after 0.9 s" {
		t.Errorf("two pipelines: got %q, %v", b, err)
	}
}

// brokenPipe is an output without a reader.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestStoryEndsIfItsOutputFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		if err := Run(t.Context(), s, s, settings, brokenPipe{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want the output's error", err)
		}
	})
}

func TestKeptStoryDeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, kept := newStage(), settings
		kept.Keep = true
		if err := Run(t.Context(), s, s, kept, io.Discard); err != nil || !s.removed.IsZero() {
			t.Errorf("got %v, removed on %v", err, s.removed)
		}
	})
}

func TestInterruptedStorySaysWhatItWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := Run(ctx, s, s, settings, io.Discard); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"acme/app is pushed" (Build `) {
			t.Errorf("got %v", err)
		}
	})
}
