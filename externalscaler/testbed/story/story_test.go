package story_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
)

// stage is a Stage on which everything happens at once, except for its faults.
type stage struct {
	view story.View
	// outcome is the outcome of the steps.
	outcome string
	// left are the runners that remain at the end. killed is how many busy runners are
	// deleted.
	left   []emulator.RunnerInfo
	killed int
	// failures is how many looks fail.
	failures int
	// keepOrphan means that the orphan is not removed.
	keepOrphan bool
}

var errLook = errors.New("the stage cannot be read")

func (s *stage) Look(context.Context) (story.View, error) {
	if s.failures > 0 {
		s.failures--
		return story.View{}, errLook
	}
	return s.view, nil
}

func (s *stage) Queue(_ context.Context, _ string, count int, _ time.Duration) error {
	for range count {
		s.view.Bitbucket.Steps = append(s.view.Bitbucket.Steps, emulator.StepInfo{UUID: "{new}", Outcome: s.outcome})
	}
	s.view.Bitbucket.Counters.BusyRunnersDeleted += s.killed
	return nil
}

func (s *stage) Orphan(context.Context) (string, error) {
	if s.keepOrphan {
		s.view.Bitbucket.Runners = append(s.view.Bitbucket.Runners, emulator.RunnerInfo{UUID: "{orphan}"})
	}
	return "{orphan}", nil
}

func (s *stage) Remove(context.Context) error {
	s.view.Bitbucket.Runners = s.left
	s.view.Groups, s.view.Jobs = nil, nil
	return nil
}

// set returns a stage with one group at its minimum. Its Bitbucket has run and lost steps
// before.
func set() *stage {
	return &stage{
		outcome: emulator.OutcomePassed,
		view: story.View{
			Bitbucket: emulator.State{
				Runners:  []emulator.RunnerInfo{{UUID: "{one}"}},
				Steps:    []emulator.StepInfo{{UUID: "{old}", Outcome: emulator.OutcomeFailed}},
				Counters: emulator.Counters{BusyRunnersDeleted: 3},
			},
			Groups: []status.Group{{Name: "builds", Runners: map[string]int{"idle": 1}, Desired: 1, Reason: "BelowMin", Note: "min is 1"}},
			Jobs:   map[string]int{"builds": 1},
		},
	}
}

func TestStorySucceedsOnlyIfEveryStepPassesAndNothingRemains(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*stage)
		want  string // in the error; empty: none
	}{
		"no fault":               {func(*stage) {}, ""},
		"a look fails once":      {func(s *stage) { s.failures = 1 }, ""},
		"a step failed":          {func(s *stage) { s.outcome = emulator.OutcomeFailed }, "of 2 steps 0 passed, 0 queued, 0 running, 2 failed"},
		"a step is never run":    {func(s *stage) { s.outcome = emulator.OutcomeQueued }, "waited for all steps to be run"},
		"a busy runner deleted":  {func(s *stage) { s.killed = 1 }, "1 busy runners deleted"},
		"the minimum is missing": {func(s *stage) { s.view.Groups[0].Runners = nil }, "waited for the minimum of runners online"},
		"the surplus stays":      {func(s *stage) { s.view.Jobs["builds"] = 2 }, "waited for each group to be back at its minimum"},
		"the orphan stays":       {func(s *stage) { s.keepOrphan = true }, "waited for the orphan to be removed"},
		"a runner remains":       {func(s *stage) { s.left = []emulator.RunnerInfo{{UUID: "{left}"}} }, "waited for Jobs and runners to be gone"},
		"every look fails":       {func(s *stage) { s.failures = 1 << 20 }, errLook.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := set()
			c.fault(s)
			var out bytes.Buffer
			err := story.Run(t.Context(), s, story.Settings{
				Groups: []story.Group{{Name: "builds", Label: "builds", Min: 1, Max: 2, Burst: 2}}, Patience: time.Second,
			}, &out)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q in\n%s", err, c.want, &out)
			}
		})
	}
}

func TestOutputWithoutATerminalIsPlainLines(t *testing.T) {
	var out bytes.Buffer
	s := set()
	if err := story.Run(t.Context(), s, story.Settings{Groups: []story.Group{{Name: "builds", Min: 1, Burst: 2}}, Patience: time.Minute}, &out); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\r\x1b") {
		t.Errorf("got control characters in %q", &out)
	}
	if got, want := out.String(), "2 steps passed, 0 failed; 0 runners left"; !strings.Contains(got, want) {
		t.Errorf("does not contain %q:\n%s", want, got)
	}
}

// brokenPipe is an output without a reader.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestStoryEndsIfItsOutputFails(t *testing.T) {
	s := set()
	s.outcome = emulator.OutcomeQueued
	err := story.Run(t.Context(), s, story.Settings{Groups: []story.Group{{Name: "builds", Min: 1, Burst: 2}}, Patience: time.Minute}, brokenPipe{})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the output's error", err)
	}
}
