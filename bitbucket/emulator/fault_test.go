package emulator

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func wantAll(t *testing.T, err error, texts []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not name %q", err, text)
		}
	}
}

func TestStatusFaultFiresCountTimes(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.faults(FaultRule{Method: "GET", Status: 503, Count: 2}, FaultRule{Status: 429, Count: 1})
	for _, want := range []int{503, 503, 429, 200} {
		b.call(want, "GET", workspaceRunners, "")
	}
	if got := b.server.State().Counters.TooManyRequests; got != 1 {
		t.Errorf("%d refused, want 1", got)
	}
}

func TestHideStepAppliesOnlyWhereTheRuleMatches(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	uuid := b.online()
	b.queue(1, "linux")
	b.faults(FaultRule{HideStep: true, Path: workspaceRunners})
	if step := b.list(workspaceRunners).Values[0].State.Step; step != nil {
		t.Errorf("the list shows step %v", step)
	}
	if b.get(uuid).State.Step == nil {
		t.Error("the runner's own route, which no rule matches, shows no step")
	}
}

func TestRulesMatchByMethodAndPath(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule FaultRule
		want int
	}{
		"any":              {FaultRule{Status: 503}, 503},
		"path":             {FaultRule{Status: 503, Path: "/2.0/workspaces/*"}, 503},
		"star in between":  {FaultRule{Status: 503, Path: "*/acme/*/runners"}, 503},
		"another method":   {FaultRule{Status: 503, Method: "POST"}, 200},
		"method any case":  {FaultRule{Status: 503, Method: "get"}, 503},
		"another path":     {FaultRule{Status: 503, Path: "/internal/*"}, 200},
		"a path's head":    {FaultRule{Status: 503, Path: "/2.0/workspaces"}, 200},
		"429 as Bitbucket": {FaultRule{Status: 429}, 429},
		"never":            {FaultRule{Status: 503, Probability: 1e-300}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{})
			b.faults(c.rule)
			b.call(c.want, "GET", workspaceRunners, "")
			b.faults()
			b.call(200, "GET", workspaceRunners, "")
		})
	}
}

func TestLatencyDelaysTheAnswerAndItsDate(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.faults(FaultRule{Latency: "30s", Count: 1})
	answered := make(chan reply, 1)
	failed := make(chan error, 1)
	before := b.clock.Now()
	go func() {
		r, err := b.try("GET", workspaceRunners, "")
		failed <- err
		answered <- r
	}()
	waitFor(t, "the call to be held up", b.clock.HasWaiters)
	b.clock.Step(30 * time.Second)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	date, err := time.Parse(time.RFC1123, (<-answered).header.Get("Date"))
	if err != nil || date.Sub(before) != 30*time.Second {
		t.Errorf("date %s, want 30 s after %s (%v)", date, before, err)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestCloseEndsDelayedCalls(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.faults(FaultRule{Latency: "10m"})
	failed := make(chan error, 1)
	go func() {
		_, err := b.try("GET", workspaceRunners, "")
		failed <- err
	}()
	waitFor(t, "the call to be held up", b.clock.HasWaiters)
	b.server.Close()
	if err := <-failed; err == nil {
		t.Error("the call was answered")
	}
}

func TestDroppedWriteIsApplied(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.faults(FaultRule{Method: "POST", DropAfterWrite: true, Count: 1}, FaultRule{Method: "POST", DropAfterWrite: true, Status: 504, Count: 1})
	const body = `{"name":"r","labels":["self.hosted","linux"]}`
	if r, err := b.try("POST", workspaceRunners, body); err == nil {
		t.Errorf("answered %d, want the connection cut", r.status)
	}
	b.call(504, "POST", workspaceRunners, body)
	if got := b.list(workspaceRunners).Size; got != 2 {
		t.Errorf("%d runners, want 2", got)
	}
}

func TestLateWriteIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	busy := b.online()
	b.faults(FaultRule{ApplyAfter: "20s"})
	made := b.register(workspaceRunners, "late")
	got := decode[runnerBody](t, b.call(200, "PUT", statePath(busy), `{"status":"DISABLED"}`).body)
	if got.State.Status != "DISABLED" {
		t.Errorf("answer %s, want DISABLED", got.State.Status)
	}
	step := b.queue(1, "linux")[0]
	if got := b.outcome(step); got != "running" {
		t.Errorf("step: %q, want running on the runner that is not disabled yet", got)
	}
	b.call(404, "GET", runnerPath(made.UUID), "")
	b.clock.Step(20 * time.Second)
	b.get(made.UUID)
	if got := b.get(busy).State.Status; got != "DISABLED" {
		t.Errorf("status %s, want DISABLED by now", got)
	}
	b.call(204, "DELETE", runnerPath(made.UUID), "")
	b.get(made.UUID)
	b.clock.Step(20 * time.Second)
	b.call(404, "GET", runnerPath(made.UUID), "")
}

func TestStaleListLags(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.register(workspaceRunners, "r")
	b.faults(FaultRule{Method: "GET", Path: "*/runners", StaleFor: "15s"})
	for i := range 3 { // at 10 s, 20 s, 30 s
		b.clock.Step(10 * time.Second)
		b.register(workspaceRunners, fmt.Sprint("r", i))
	}
	if got := b.list(workspaceRunners).Size; got != 2 {
		t.Errorf("at 30 s: %d runners, want 2", got)
	}
	b.clock.Step(15 * time.Second)
	if got := b.list(workspaceRunners).Size; got != 4 {
		t.Errorf("at 45 s: %d runners, want 4", got)
	}
}

func TestEmptyListIsEmpty(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.register(workspaceRunners, "r")
	b.faults(FaultRule{EmptyList: true, Count: 1})
	if r := b.call(200, "GET", workspaceRunners, ""); !strings.Contains(r.body, `"values":[],"size":0`) {
		t.Errorf("list %s", r.body)
	}
	if got := b.list(workspaceRunners).Size; got != 1 {
		t.Errorf("%d runners afterwards, want 1", got)
	}
}

func TestTruncatedAnswerEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.register(workspaceRunners, "r")
	b.faults(FaultRule{Truncate: true})
	r, err := b.try("GET", workspaceRunners, "")
	if !errors.Is(err, io.ErrUnexpectedEOF) || r.body == "" {
		t.Errorf("body %q, error %v; want half a body and an unexpected end", r.body, err)
	}
}
