package emulator

import (
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
)

func (b *bench) plan(steps StepPlan) {
	b.t.Helper()
	body, err := json.Marshal(steps)
	if err != nil {
		b.t.Fatal(err)
	}
	b.call(204, "POST", "/_emulator/plan", string(body))
}

func (b *bench) startStep(id string, step int) {
	b.t.Helper()
	b.call(204, "POST", "/_emulator/steps/"+url.PathEscape(b.steps(id)[step].UUID)+"/start", "")
}

func (b *bench) rerun(want int, id, body string) {
	b.t.Helper()
	b.call(want, "POST", "/_emulator/pipelines/"+url.PathEscape(b.pipeline(id).UUID)+"/rerun", body)
}

const (
	passed  = "COMPLETED/SUCCESSFUL"
	failed  = "COMPLETED/FAILED"
	stopped = "COMPLETED/STOPPED"
	notRun  = "COMPLETED/NOT_RUN"
	runs    = "IN_PROGRESS/RUNNING"
	paused  = "PENDING/PAUSED"
)

// Steps without runs-on run on Bitbucket's own runners, so that these pipelines need none.
func TestTheFinalStepRunsWhateverHappens(t *testing.T) {
	t.Parallel()
	const file = `pipelines: {default: [
		step: {name: a, script: [sleep 10]}, final: {name: f, script: [sleep 10]}, step: {name: b, script: [sleep 10]}]}`
	end := func(b *bench) {
		for range 3 {
			b.clock.Step(10 * time.Second)
			b.states("1")
		}
	}
	for name, c := range map[string]struct {
		run  func(*bench)
		want []string
	}{
		"all passed":             {end, []string{passed, passed, passed, passed}},
		"a step failed":          {func(b *bench) { b.plan(StepPlan{}); end(b) }, nil},
		"it was stopped":         {func(b *bench) { b.call(204, "POST", appPipelines+"/1/stopPipeline", "") }, []string{runs, stopped, stopped, runs}},
		"it was stopped, at end": {func(b *bench) { b.call(204, "POST", appPipelines+"/1/stopPipeline", ""); end(b) }, []string{stopped, stopped, stopped, passed}},
		"it was stopped twice": {func(b *bench) {
			b.call(204, "POST", appPipelines+"/1/stopPipeline", "")
			b.call(204, "POST", appPipelines+"/1/stopPipeline", "")
		}, []string{stopped, stopped, stopped, stopped}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{ParseLag: -1})
			if c.want == nil {
				b.plan(StepPlan{Rules: []StepRule{{Step: "a", Result: "FAILED"}}})
				c.want = []string{failed, failed, notRun, passed}
			}
			b.push("main", file)
			c.run(b)
			b.wantStates("1", c.want...)
			if got := b.steps("1")[2].Name; got != "[Final Step] f" {
				t.Errorf("the final step is shown as %q", got)
			}
		})
	}
	b := start(t, Options{})
	b.push("main", file)
	b.call(204, "POST", appPipelines+"/1/stopPipeline", "")
	b.wantStates("1", stopped, stopped, stopped, stopped) // it was PARSING

	no := false
	b = start(t, Options{ParseLag: -1})
	b.plan(StepPlan{Rules: []StepRule{{Step: "[Final Step] f", Condition: &no}}})
	b.push("main", `pipelines: {default: [step: {name: f, condition: {state: "true"}, script: [x]}, final: {name: f, condition: {state: "true"}, script: [x]}]}`)
	b.wantStates("1", passed, passed, notRun)
}

func TestWhatHappensAfterAFailedStep(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file    string
		result  string
		times   int
		want    []string
		retries int
	}{
		"the pipeline fails":             {`step: {name: a, script: [x]}, step: {script: [x]}`, "FAILED", 0, []string{failed, failed, notRun}, 0},
		"it is ignored":                  {`step: {name: a, on-fail: {strategy: ignore}, script: [x]}, step: {script: [x]}`, "FAILED", 0, []string{passed, failed, passed}, 0},
		"an error is not ignored":        {`step: {name: a, on-fail: {strategy: ignore}, script: [x]}, step: {script: [x]}`, "ERROR", 0, []string{failed, "COMPLETED/ERROR", notRun}, 0},
		"a retry passes":                 {`step: {name: a, on-fail: {strategy: retry, max-retries: 2}, script: [x]}, step: {script: [x]}`, "FAILED", 2, []string{passed, passed, passed}, 2},
		"all retries fail":               {`step: {name: a, on-fail: {strategy: retry, max-retries: 2}, script: [x]}, step: {script: [x]}`, "FAILED", 0, []string{failed, failed, notRun}, 2},
		"an error is not retried":        {`step: {name: a, on-fail: {strategy: retry}, script: [x]}`, "ERROR", 0, []string{failed, "COMPLETED/ERROR"}, 0},
		"the steps beside it go on":      {`parallel: [step: {name: a, script: [x]}, step: {script: [sleep 9]}]`, "FAILED", 0, []string{runs, failed, runs}, 0},
		"the steps beside it stop":       {`parallel: {fail-fast: true, steps: [step: {name: a, script: [x]}, step: {script: [sleep 9]}]}`, "FAILED", 0, []string{failed, failed, stopped}, 0},
		"its own fail-fast is off":       {`parallel: {fail-fast: true, steps: [step: {name: a, fail-fast: false, script: [x]}, step: {script: [sleep 9]}]}`, "FAILED", 0, []string{runs, failed, runs}, 0},
		"an ignored failure stops none":  {`parallel: {fail-fast: true, on-fail: {strategy: ignore}, steps: [step: {name: a, script: [x]}, step: {script: [sleep 9]}]}`, "FAILED", 0, []string{runs, failed, runs}, 0},
		"a gate beside it does not open": {`step: {script: [x]}, parallel: [step: {name: a, script: [x]}, step: {trigger: manual, script: [x]}]`, "FAILED", 0, []string{failed, passed, failed, notRun}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{ParseLag: -1})
			b.plan(StepPlan{Rules: []StepRule{{Step: "a", Result: c.result, Count: c.times}}})
			b.push("main", "pipelines: {default: ["+c.file+"]}")
			b.wantStates("1", c.want...)
			for _, st := range b.server.State().Steps {
				if st.Name == "a" && st.Retries != c.retries {
					t.Errorf("%d retries, want %d", st.Retries, c.retries)
				}
			}
		})
	}
}

func TestAStoppedStepLosesItsRunner(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	b.plan(StepPlan{Rules: []StepRule{{Step: "a", Result: "FAILED"}}})
	runner := b.online("my.group")
	b.push("main", `pipelines: {default: [parallel: {fail-fast: true, steps: [step: {runs-on: [my.group], script: [sleep 60]}, step: {name: a, script: [sleep 5]}]}]}`)
	b.clock.Step(5 * time.Second)
	b.wantStates("1", failed, stopped, failed)
	if step := b.get(runner).State.Step; step != nil {
		t.Errorf("the runner still has step %v", step)
	}
}

func TestRunnersLearnHowTheirStepsGo(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1, AssignLag: -1})
	b.plan(StepPlan{Duration: "20s", Rules: []StepRule{{Step: "a", Result: "FAILED", Count: 1}, {Step: "b", Duration: "1m"}}})
	runner := b.online("my.group")
	b.push("main", `pipelines: {default: [parallel: [step: {name: a, runs-on: [my.group], on-fail: {strategy: retry}, script: [x]}], step: {name: b, runs-on: [my.group], script: [sleep 5]}]}`)
	var durations []string
	for range 3 {
		for _, st := range b.server.State().Steps {
			if st.RunnerUUID == runner && st.Outcome == OutcomeRunning {
				durations = append(durations, st.Name+" "+st.Duration)
			}
		}
		b.set(runner, ActionIdle, "")
	}
	if want := []string{"a 20s", "a 20s", "b 1m0s"}; !cmp.Equal(durations, want) {
		t.Errorf("ran %q, want %q", durations, want)
	}
	b.wantStates("1", passed, passed, passed)
	b.call(400, "POST", "/_emulator/plan", `{"rules":[{"result":"GOOD"}]}`)
}

func TestConditionsDecideWhetherStepsRun(t *testing.T) {
	t.Parallel()
	no := false
	const file = `pipelines: {default: [
		step: {name: always, script: [x]},
		step: {name: changes, condition: {changesets: {includePaths: ["src/**"], excludePaths: ["**/*.md"]}}, script: [x]},
		step: {name: state, condition: {state: 'BITBUCKET_BRANCH == "main"'}, script: [x]},
		stage: {name: stage, condition: {state: "beyond.our(grammar)"}, steps: [step: {script: [x]}, step: {script: [x]}]}]}`
	for name, c := range map[string]struct {
		request PushRequest
		plan    StepPlan
		want    []string
	}{
		"nothing else changed":    {PushRequest{}, StepPlan{}, []string{passed, passed, notRun, passed, passed, passed}},
		"a file that is included": {PushRequest{Changed: []string{"README", "src/a/b.go"}}, StepPlan{}, []string{passed, passed, passed, passed, passed, passed}},
		"a file that is excluded": {PushRequest{Files: map[string]string{"src/a.md": "x"}}, StepPlan{}, []string{passed, passed, notRun, passed, passed, passed}},
		"another branch":          {PushRequest{Branch: "x"}, StepPlan{}, []string{passed, passed, notRun, notRun, passed, passed}},
		"the plan says so":        {PushRequest{}, StepPlan{Rules: []StepRule{{Step: "st*", Condition: &no}}}, []string{passed, passed, notRun, notRun, notRun, notRun}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{ParseLag: -1})
			b.plan(c.plan)
			c.request.File = file
			b.pushes(c.request)
			b.wantStates("1", c.want...)
		})
	}
}

func TestAStageIsStartedAsAWhole(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	b.push("main", `pipelines: {default: [step: {script: [x]}, stage: {trigger: manual, steps: [
		parallel: [step: {script: [sleep 5]}, step: {script: [sleep 5]}, step: {trigger: manual, script: [x]}], step: {script: [x]}]}]}`)
	b.wantStates("1", "IN_PROGRESS/PAUSED", passed, paused, paused, paused, "PENDING")
	b.startStep("1", 1)
	b.wantStates("1", runs, passed, runs, runs, paused, "PENDING")
	if got := b.steps("1")[1].Trigger.Type; got != "pipeline_step_trigger_manual" {
		t.Errorf("the first step of the stage has the trigger %s", got)
	}
	b.startStep("1", 3)
	b.clock.Step(5 * time.Second)
	b.wantStates("1", passed, passed, passed, passed, passed, passed)
}

func TestAStageKeepsItsDeploymentBetweenItsSteps(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	const file = `pipelines: {default: [stage: {deployment: test, steps: [step: {script: [sleep 5]}, step: {trigger: manual, script: [x]}]}]}`
	b.push("main", file)
	b.push("main", file)
	b.clock.Step(5 * time.Second)
	b.wantStates("1", "IN_PROGRESS/PAUSED", passed, paused)
	b.wantStates("2", "IN_PROGRESS/HALTED", "PENDING/HALTED", "PENDING")
	b.startStep("1", 1)
	b.wantStates("2", runs, runs, "PENDING")
}

func TestAStepStartsAnotherPipeline(t *testing.T) {
	t.Parallel()
	const file = `pipelines: {default: [step: {type: pipeline, custom: %s}, step: {script: [x]}], custom: {
		child: [step: {name: c, script: [sleep 5]}], parent: [step: {type: pipeline, custom: child}]}}`
	for name, c := range map[string]struct {
		custom  string
		run     func(*bench)
		parent  []string
		child   []string
		started int
	}{
		"it runs":          {"child", func(*bench) {}, []string{runs, runs, "PENDING"}, []string{runs, runs}, 2},
		"it passes":        {"child", func(b *bench) { b.clock.Step(5 * time.Second) }, []string{passed, passed, passed}, []string{passed, passed}, 2},
		"it fails":         {"child", func(b *bench) { b.call(204, "POST", appPipelines+"/2/stopPipeline", "") }, []string{failed, failed, notRun}, []string{stopped, stopped}, 2},
		"the parent stops": {"child", func(b *bench) { b.call(204, "POST", appPipelines+"/1/stopPipeline", "") }, []string{stopped, stopped, stopped}, []string{stopped, stopped}, 2},
		"there is none":    {"nothing", func(*bench) {}, []string{failed, "COMPLETED/ERROR", notRun}, nil, 1},
		"a child's child":  {"parent", func(*bench) {}, []string{failed, failed, notRun}, []string{failed, "COMPLETED/ERROR"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{ParseLag: -1})
			b.push("main", sprintf(file, c.custom))
			c.run(b)
			b.wantStates("1", c.parent...)
			if got := decode[page[pipelines.Body]](t, b.call(200, "GET", appPipelines, "").body).Size; got != c.started {
				t.Fatalf("%d pipelines, want %d", got, c.started)
			}
			if c.child == nil {
				return
			}
			b.wantStates("2", c.child...)
			if p := b.pipeline("2"); p.Target.Selector.Pattern != c.custom || p.Target.Commit.Hash != b.pipeline("1").Target.Commit.Hash || p.Trigger.Name == "" {
				t.Errorf("the child is %+v", p)
			}
		})
	}
}

func TestARerunIsANewRunOfTheSamePipeline(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	b.plan(StepPlan{Rules: []StepRule{{Step: "b", Result: "FAILED", Count: 1}}})
	id := b.push("main", `pipelines: {default: [step: {name: a, script: [sleep 5]}, step: {name: b, script: [x]}, step: {script: [x]}]}`).Pipeline
	b.rerun(409, id, `{"all":true}`) // it runs
	b.clock.Step(5 * time.Second)
	b.wantStates(id, failed, passed, failed, notRun)
	before := b.steps(id)
	b.rerun(204, id, "")
	b.wantStates(id, passed, passed, passed, passed)
	after := b.steps(id)
	if p := b.pipeline(id); p.RunNumber != 2 || p.BuildNumber != 1 {
		t.Errorf("run %d of build %d, want run 2 of build 1", p.RunNumber, p.BuildNumber)
	}
	if after[0].UUID != before[0].UUID || after[0].RunNumber != 1 || after[1].UUID == before[1].UUID || after[1].RunNumber != 2 {
		t.Errorf("steps %+v, want only the failed ones to be new", after)
	}
	b.rerun(409, id, "") // nothing has failed
	b.rerun(204, id, `{"all":true}`)
	b.wantStates(id, runs, runs, "PENDING", "PENDING")
	if got := len(b.server.State().Steps); got != 8 {
		t.Errorf("%d steps in the state, want 3 and 5 of earlier runs", got)
	}
	b.call(404, "POST", "/_emulator/pipelines/"+url.PathEscape(b.pipeline(id).UUID)+"/start", "")
}

func TestARerunChangesTheStatusOfItsCommit(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	events := b.events("repo:commit_status_created", "repo:commit_status_updated")
	id := b.push("main", `pipelines: {default: [step: {script: [x]}]}`).Pipeline
	b.rerun(204, id, `{"all":true}`)
	b.wantStates(id, passed, passed)
	for _, want := range []struct{ key, state string }{
		{"repo:commit_status_created", "INPROGRESS"}, {"repo:commit_status_updated", "SUCCESSFUL"},
		{"repo:commit_status_updated", "INPROGRESS"}, {"repo:commit_status_updated", "SUCCESSFUL"},
	} {
		has(t, next(t, events, want.key), `{"commit_status":{"state":"`+want.state+`"}}`)
	}
}
