package emulator

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestPeakAliveCountsRunnersThatRunOn(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	r := b.register(workspaceRunners, "r")
	b.process(r)
	if got := b.server.State().Counters.PeakAlive; !cmp.Equal(got, map[string]int{"linux,self.hosted": 1}) {
		t.Errorf("got %v, want one", got)
	}
}
