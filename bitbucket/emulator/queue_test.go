package emulator

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/emulator/agent"
)

func TestStepNeedsAnOnlineRunnerWithAllItsLabels(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(*bench)
		want    string
	}{
		"no runner":         {func(*bench) {}, "failed: no runner"},
		"one label missing": {func(b *bench) { b.online("my.group") }, "failed: no runner"},
		"unregistered":      {func(b *bench) { b.register(workspaceRunners, "r", "my.group", "big") }, "failed: no runner"},
		"offline":           {func(b *bench) { b.set(b.online("my.group", "big"), ActionOffline, "") }, "failed: no runner"},
		"unhealthy":         {func(b *bench) { b.set(b.online("my.group", "big"), ActionUnhealthy, "") }, "failed: no runner"},
		"cordoned":          {func(b *bench) { b.set(b.online("my.group", "big"), ActionCordon, "") }, "failed: no runner"},
		"uncordoned": {func(b *bench) {
			r := b.online("my.group", "big")
			b.set(r, ActionCordon, "")
			b.set(r, ActionUncordon, "")
		}, "running"},
		"disabled": {func(b *bench) { b.disable(b.online("my.group", "big")) }, "failed: no runner"},
		"idle":     {func(b *bench) { b.online("my.group", "big", "more") }, "running"},
		"busy":     {func(b *bench) { b.set(b.online("my.group", "big"), ActionStep, "") }, "queued"},
		"another repository's": {func(b *bench) {
			r := b.register("/2.0/repositories/acme/web/pipelines-config/runners", "r", "my.group", "big")
			b.set(r.UUID, ActionOnline, "")
		}, "failed: no runner"},
		"its repository's": {func(b *bench) {
			b.set(b.register(repositoryRunners, "r", "my.group", "big").UUID, ActionOnline, "")
		}, "running"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{})
			c.prepare(b)
			if got := b.outcome(b.queue(1, "linux", "my.group", "big")[0]); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestStepShowsOnItsRunner(t *testing.T) {
	t.Parallel()
	for name, hide := range map[string]bool{"shown": false, "hidden": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{HideStep: hide})
			uuid := b.online()
			step := b.queue(1, "linux")[0]
			var want *stepRef
			if !hide {
				want = &stepRef{Type: "PIPELINE_STEP", UUID: step}
			}
			if got := b.get(uuid).State.Step; !cmp.Equal(got, want) {
				t.Errorf("get: %s", cmp.Diff(want, got))
			}
			if got := b.list(workspaceRunners).Values[0].State.Step; !cmp.Equal(got, want) {
				t.Errorf("list: %s", cmp.Diff(want, got))
			}
			if got := b.server.State().Runners[0].StepUUID; got != step {
				t.Errorf("state: %q, want %q", got, step)
			}
		})
	}
}

func TestDisabledRunnerFinishesItsStepAndTakesNoOther(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	first, second := b.online(), b.online()
	steps := b.queue(3, "linux")
	b.disable(first)
	state := b.get(first).State
	if state.Status != "DISABLED" || state.Step == nil {
		t.Fatalf("state %+v, want DISABLED with its step", state)
	}
	b.set(first, ActionIdle, "")
	if got := b.outcome(state.Step.UUID); got != "passed" {
		t.Errorf("its step: %q, want passed", got)
	}
	if got := b.outcome(steps[2]); got != "queued" {
		t.Errorf("the waiting step: %q, want queued", got)
	}
	b.set(second, ActionIdle, "")
	if got := b.outcome(steps[2]); got != "running" {
		t.Errorf("the waiting step: %q, want running on the enabled runner", got)
	}
	if got := b.server.State().Counters.RunnersReused; got != 1 {
		t.Errorf("runners reused: %d, want 1", got)
	}
	again := b.queue(1, "linux")[0]
	b.call(200, "PUT", statePath(first), `{"status":"ENABLED"}`)
	if got := b.outcome(again); got != "running" {
		t.Errorf("after enabling: %q, want running", got)
	}
}

func TestDeletingABusyRunnerLosesItsStep(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	uuid := b.online()
	step := b.queue(1, "linux")[0]
	b.call(204, "DELETE", runnerPath(uuid), "")
	if got := b.outcome(step); got != "failed: runner deleted" {
		t.Errorf("step: %q", got)
	}
	c := b.server.State().Counters
	if c.BusyRunnersDeleted != 1 || !cmp.Equal(c.StepsLost, map[string]int{"runner deleted": 1}) {
		t.Errorf("counters %+v", c)
	}
}

func TestLostHeartbeatMakesARunnerOffline(t *testing.T) {
	t.Parallel()
	b := start(t, Options{OfflineAfter: time.Minute})
	r := b.register(workspaceRunners, "r")
	admin := b.auth
	b.process(r)
	session := b.auth
	b.auth = admin
	if got := b.get(r.UUID).State.Status; got != "ONLINE" {
		t.Fatalf("status %s after authentication, want ONLINE", got)
	}
	step := b.queue(1, "linux")[0]
	b.clock.Step(time.Minute)
	b.auth = session
	b.call(204, "POST", agent.HeartbeatPath, "")
	b.auth = admin
	b.clock.Step(time.Minute)
	if got := b.get(r.UUID).State.Status; got != "ONLINE" {
		t.Errorf("status %s a minute after the heartbeat, want ONLINE", got)
	}
	b.clock.Step(time.Second)
	if got := b.get(r.UUID).State; got.Status != "OFFLINE" || got.Step != nil {
		t.Errorf("state %+v, want OFFLINE without a step", got)
	}
	if got := b.outcome(step); got != "failed: disconnected" {
		t.Errorf("step: %q", got)
	}
	b.auth = session
	b.call(204, "POST", agent.HeartbeatPath, "")
	b.call(409, "POST", agent.ResultPath, `{"step":"`+step+`","status":"PASSED"}`)
	b.auth = admin
	if got := b.get(r.UUID).State.Status; got != "ONLINE" {
		t.Errorf("status %s after a new heartbeat, want ONLINE", got)
	}
}

func TestRunnerReceivesItsStepAfterTheAssignLag(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	r := b.register(workspaceRunners, "r")
	b.process(r)
	step := b.queue(1, "linux")[0]
	b.call(204, "GET", agent.StepPath, "")
	b.clock.Step(defaultAssignLag)
	got := decode[agent.Assignment](t, b.call(200, "GET", agent.StepPath, "").body)
	if got.Step != step || got.Account != WorkspaceUUID || got.Repository != AppRepositoryUUID || got.Duration != "1m0s" {
		t.Errorf("assignment %+v", got)
	}
	b.call(204, "POST", agent.ResultPath, `{"step":"`+step+`","status":"FAILED"}`)
	if got := b.outcome(step); got != "failed: step failed" {
		t.Errorf("step: %q", got)
	}
}

func TestRestartedProcessLosesTheRunnersStep(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	r := b.register(workspaceRunners, "r")
	b.process(r)
	first := b.auth
	step := b.queue(1, "linux")[0]
	b.process(r)
	if got := b.outcome(step); got != "failed: process gone" {
		t.Errorf("step: %q", got)
	}
	b.auth = first
	b.call(401, "POST", agent.HeartbeatPath, "")
}

func TestStepsEndAtTheirTimeLimits(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.online()
	steps := b.queue(2, "linux")
	b.clock.Step(121 * time.Minute)
	if got := b.outcome(steps[0]); got != "failed: step timeout" {
		t.Errorf("running: %q", got)
	}
	waiting := b.queue(1, "linux")[0]
	b.disable(b.server.State().Runners[0].UUID)
	b.clock.Step(151 * time.Minute)
	if got := b.outcome(waiting); got != "failed: queue timeout" {
		t.Errorf("waiting: %q", got)
	}
}

func TestOnlyTheLatestEndedStepsAreKept(t *testing.T) {
	t.Parallel()
	b := start(t, Options{KeepSteps: 5})
	var last []string
	for range 10 {
		last = b.queue(2, "nobody")
	}
	steps := b.server.State().Steps
	if len(steps) != 4 || steps[3].UUID != last[1] {
		t.Errorf("%d steps kept, want the latest 4", len(steps))
	}
}

func TestPipelinesInErrorAreForgottenToo(t *testing.T) {
	t.Parallel()
	b := start(t, Options{KeepSteps: 5, ParseLag: -1})
	for range 10 {
		b.push("main", "pipelines: {default: elsewhere}")
	}
	if got := b.call(200, "GET", appPipelines+"?fields=size", "").body; got != `{"size":5}` {
		t.Errorf("kept %s, want 5", got)
	}
}

func TestPeaksAreKept(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	first, second := b.online("x"), b.online("x")
	b.set(first, ActionOffline, "")
	b.call(204, "DELETE", runnerPath(second), "")
	want := map[string]int{"linux,self.hosted,x": 2}
	if got := b.server.State().Counters.PeakOnline; !cmp.Equal(got, want) {
		t.Errorf("peak: %s", cmp.Diff(want, got))
	}
}

func TestInvalidControlsReportEveryFault(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	control := NewControl(b.url)
	for name, c := range map[string]struct {
		do   func() error
		want []string
	}{
		"steps": {func() error {
			_, err := control.QueueSteps(t.Context(), StepRequest{Workspace: "x", Labels: []string{"A"}, Duration: "soon", Count: 101})
			return err
		}, []string{"no \\\"\\\" in \\\"x\\\"", "labels", "duration", "count: 101"}},
		"rules": {func() error {
			return control.SetFaults(t.Context(), []FaultRule{{}, {Latency: "x", Status: 99, Probability: 2, Count: -1}})
		}, []string{"rules[1]", "latency", "status: 99", "probability", "count"}},
		"runner": {func() error { return control.SetRunner(t.Context(), "{x}", ActionIdle, "") }, []string{"404", "not found"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantAll(t, c.do(), c.want)
		})
	}
	b.call(400, "POST", "/_emulator/faults", `{"rules":[{"pth":"*"}]}`)
	b.call(200, "GET", "/", "")
	b.call(200, "GET", "/healthz", "")
}

func TestControlClient(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	control := NewControl(b.url)
	r := b.register(workspaceRunners, "r", "mine")
	const foreign = "{aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa}"
	for _, set := range []struct{ action, step string }{{ActionOnline, ""}, {ActionStep, foreign}} {
		if err := control.SetRunner(t.Context(), r.UUID, set.action, set.step); err != nil {
			t.Fatal(err)
		}
	}
	steps, err := control.QueueSteps(t.Context(), StepRequest{Workspace: "acme", Repository: "web", Labels: []string{"mine"}, Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	state, err := control.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || len(state.Steps) != 2 || state.Steps[0].Outcome != OutcomeQueued || state.Steps[0].Repository != "web" {
		t.Errorf("steps %v, state %+v", steps, state.Steps)
	}
	if got := state.Runners[0]; got.StepUUID != foreign || got.Scope != "acme" || got.Status != "ONLINE" {
		t.Errorf("runner %+v", got)
	}
}
