package emulator

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/emulator/peaks"
)

func TestStoppingAPipelineCancelsItsOpenSteps(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	runner := b.online("my.group")
	steps := b.queue(2, "my.group")
	var pipeline string
	for _, step := range b.server.State().Steps {
		pipeline = step.PipelineUUID
	}
	b.call(http.StatusNoContent, http.MethodPost, "/_emulator/pipelines/"+url.PathEscape(pipeline)+"/stop", "")
	for i, step := range steps {
		if got := b.outcome(step); got != "failed: "+CauseStopped {
			t.Errorf("step %d: got %q", i, got)
		}
	}
	if step := b.get(runner).State.Step; step != nil {
		t.Errorf("the runner still has step %v", step)
	}
	if lost := b.server.State().Counters.StepsLost; len(lost) != 0 {
		t.Errorf("got %v as lost", lost)
	}
}

func TestRunnerWithoutAProcessDoesNotCountForPeaks(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.set(b.online("my.group"), ActionGone, "")
	b.online("my.group")
	b.disable(b.online("my.group"))
	counters := b.server.State().Counters
	for set, n := range counters.PeakOnline {
		if n != 2 { // the last one, before it was disabled
			t.Errorf("%s: %d online at once, want 2", set, n)
		}
	}
}

func TestPeakAliveCountsProcessesFromTheirFirstCallToTheirLast(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	for name, c := range map[string]struct {
		lives []peaks.Life
		want  map[string]int
	}{
		"one after the other": {[]peaks.Life{{"a", at(1), at(2)}, {"a", at(3), at(4)}}, map[string]int{"a": 1}},
		"at once":             {[]peaks.Life{{"a", at(1), at(3)}, {"a", at(2), at(4)}}, map[string]int{"a": 2}},
		"of two groups":       {[]peaks.Life{{"a", at(1), at(3)}, {"b", at(2), at(4)}}, map[string]int{"a": 1, "b": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(Options{})
			s.lives = c.lives
			s.runners["r"] = &runner{labelSet: "r", born: at(4), seen: at(5)} // one that runs on counts too
			c.want["r"] = 1
			if diff := cmp.Diff(c.want, s.peakAlive()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
