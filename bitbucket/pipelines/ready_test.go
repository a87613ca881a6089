package pipelines

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The pipelines of the tests of states. Every step runs on x unless it says otherwise.
const statesFile = `
options: {runs-on: [self.hosted, x]}
pipelines:
  custom:
    line:
    - step: {name: A}
    - step: {name: B}
    - final: {name: F}
    group:
    - parallel: [step: {name: A}, step: {name: B}, step: {name: C, runs-on: []}]
    - step: {name: D}
    - final: {name: F}
    fast:
    - parallel: {fail-fast: true, steps: [step: {name: A}, step: {name: B}, step: {name: C, fail-fast: false}]}
    - step: {name: D}
    - final: {name: F}
    on-fail:
    - step: {name: Ignored, on-fail: {strategy: ignore}}
    - step: {name: Retried, on-fail: {strategy: retry, max-retries: 2}}
    - step: {name: Other, on-fail: {strategy: ask}}
    - step: {name: End}
    - final: {name: F}
    retry-last:
    - step: {name: A, on-fail: {strategy: retry}}
    - step: {name: B, condition: {state: a == b}}
    - final: {name: F}
    retry-beside:
    - parallel: [step: {name: A, on-fail: {strategy: retry}}, step: {name: B, on-fail: {strategy: ignore}}]
    - final: {name: F}
    retry-final:
    - step: {name: A}
    - final: {name: F, on-fail: {strategy: retry}}
    gates:
    - step: {name: A}
    - step: {name: Manual, trigger: manual}
    - step: {name: Condition, condition: {state: a == b}}
    - step: {name: Lock, deployment: production}
    - final: {name: F}
    skipped:
    - stage: {condition: {changesets: {includePaths: [a]}}, steps: [step: {name: A}, step: {name: B}]}
    - step: {name: C}
    - final: {name: F}
    groups:
    - parallel: [step: {name: A, concurrency-group: g}, step: {name: B, concurrency-group: g}, step: {name: C, concurrency-group: h}]
    cloud-first:
    - parallel: [step: {name: A, concurrency-group: g, runs-on: []}, step: {name: B, concurrency-group: g}]
`

// stateOf reads a state as the tests write it: a result, or a state, or PENDING with its stage.
func stateOf(t testing.TB, word string) State {
	t.Helper()
	switch name, stage, _ := strings.Cut(word, "/"); name {
	case StatePending, StateReady, StateInProgress:
		return State{Name: name, Stage: stage}
	case "SELF_DESTRUCTED":
		return State{Name: name}
	default:
		return State{Name: StateCompleted, Result: name}
	}
}

func TestWhichStepsAreReady(t *testing.T) {
	file, err := Parse([]byte(statesFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ pipeline, states, want string }{
		"nothing is reported":                    {"line", "", "A"},
		"all are pending":                        {"line", "A PENDING, B PENDING, F PENDING", "A"},
		"the first has been reached":             {"line", "A PENDING/PENDING", "A"},
		"it is ready":                            {"line", "A READY", "A"},
		"it runs":                                {"line", "A IN_PROGRESS", ""},
		"it is in a state that nobody knows":     {"line", "A SELF_DESTRUCTED", ""},
		"it is halted":                           {"line", "A PENDING/HALTED", ""},
		"it has succeeded":                       {"line", "A SUCCESSFUL", "B"},
		"a stage alone is no proof":              {"line", "A IN_PROGRESS, B PENDING/PENDING", ""},
		"it has failed":                          {"line", "A FAILED", "F"},
		"it has failed and the rest is decided":  {"line", "A FAILED, B NOT_RUN, F PENDING", "F"},
		"it had an error":                        {"line", "A ERROR", "F"},
		"it was stopped":                         {"line", "A STOPPED, B STOPPED", "F"},
		"it has expired":                         {"line", "A EXPIRED", "F"},
		"its result is not known":                {"line", "A SURPRISING", ""},
		"the pipeline was stopped altogether":    {"line", "A STOPPED, B STOPPED, F STOPPED", ""},
		"all have succeeded":                     {"line", "A SUCCESSFUL, B SUCCESSFUL", "F"},
		"the final step runs":                    {"line", "A FAILED, F IN_PROGRESS", ""},
		"a later step still runs after a stop":   {"line", "A STOPPED, B IN_PROGRESS", ""},
		"a failure that nothing explains":        {"line", "A SUCCESSFUL, B NOT_RUN", "F"},
		"side by side":                           {"group", "", "A, B"},
		"one of the group has failed":            {"group", "A FAILED", "B"},
		"the group has failed":                   {"group", "A FAILED, B SUCCESSFUL, C SUCCESSFUL", "F"},
		"the group has ended":                    {"group", "A SUCCESSFUL, B SUCCESSFUL, C SUCCESSFUL", "D"},
		"one of a group that fails fast":         {"fast", "A FAILED", ""},
		"the rest of it was stopped":             {"fast", "A FAILED, B STOPPED, C STOPPED", "F"},
		"one that fails without stopping it":     {"fast", "C FAILED", "A, B"},
		"one that did not run stops nothing":     {"fast", "A NOT_RUN, C FAILED", "B"},
		"a failure that is ignored":              {"on-fail", "Ignored FAILED", "Retried"},
		"an error is not ignored":                {"on-fail", "Ignored ERROR", ""},
		"an error is not ignored and ends it":    {"on-fail", "Ignored ERROR, Retried NOT_RUN", "F"},
		"a failure that is retried":              {"on-fail", "Ignored SUCCESSFUL, Retried FAILED", ""},
		"its retry waits":                        {"on-fail", "Ignored SUCCESSFUL, Retried PENDING/PENDING", "Retried"},
		"its retries are used up":                {"on-fail", "Ignored SUCCESSFUL, Retried FAILED, Other NOT_RUN, End NOT_RUN", "F"},
		"the last one failed and is retried":     {"retry-last", "A FAILED", ""},
		"the last one has used up its retries":   {"retry-last", "A FAILED, B NOT_RUN", "F"},
		"a step beside it is not done":           {"retry-beside", "A FAILED, B IN_PROGRESS", ""},
		"nothing but the final step is left":     {"retry-beside", "A FAILED, B SUCCESSFUL", "F"},
		"an error that nothing can ignore":       {"retry-beside", "A SUCCESSFUL, B ERROR", "F"},
		"the final step is retried":              {"retry-final", "A SUCCESSFUL, F PENDING", "F"},
		"a strategy that nobody knows":           {"on-fail", "Ignored SUCCESSFUL, Retried SUCCESSFUL, Other FAILED", ""},
		"a manual step before it is started":     {"gates", "A SUCCESSFUL", ""},
		"its gate is open":                       {"gates", "A SUCCESSFUL, Manual PENDING/PAUSED", ""},
		"it was started":                         {"gates", "A SUCCESSFUL, Manual PENDING/PENDING", "Manual"},
		"a condition that is not decided":        {"gates", "A SUCCESSFUL, Manual SUCCESSFUL", ""},
		"a condition that holds":                 {"gates", "A SUCCESSFUL, Manual SUCCESSFUL, Condition PENDING/PENDING", "Condition"},
		"a condition that does not hold":         {"gates", "A SUCCESSFUL, Manual SUCCESSFUL, Condition NOT_RUN", "Lock"},
		"a lock that is free as far as one sees": {"gates", "A SUCCESSFUL, Manual SUCCESSFUL, Condition SUCCESSFUL", "Lock"},
		"a lock that another pipeline holds":     {"gates", "A SUCCESSFUL, Manual SUCCESSFUL, Condition SUCCESSFUL, Lock PENDING/PAUSED", ""},
		"a stage's condition":                    {"skipped", "", ""},
		"a stage's condition holds":              {"skipped", "A SUCCESSFUL", "B"},
		"a stage's condition does not hold":      {"skipped", "A NOT_RUN, B SKIPPED", "C"},
		"half a stage skipped":                   {"skipped", "A NOT_RUN", ""},
		"one of a concurrency group":             {"groups", "", "A, C"},
		"it runs, so the other does not start":   {"groups", "A IN_PROGRESS", "C"},
		"the other one runs":                     {"groups", "B IN_PROGRESS", "C"},
		"Atlassian's runners take it":            {"cloud-first", "", ""},
		"and leave it":                           {"cloud-first", "A SUCCESSFUL", "B"},
	} {
		t.Run(name, func(t *testing.T) {
			p := file.Select(Selector{Custom, c.pipeline})
			states := make([]State, len(p.Steps))
			for one := range strings.SplitSeq(c.states, ", ") {
				if title, word, ok := strings.Cut(one, " "); ok {
					mark(t, p, states, title, stateOf(t, word))
				}
			}
			if got := titles(Ready(p, states)); got != c.want {
				t.Errorf("ready are %q, want %q", got, c.want)
			}
		})
	}
}

func TestNothingIsReadyOfWhatIsNotKnown(t *testing.T) {
	file, err := Parse([]byte(statesFile))
	if err != nil {
		t.Fatal(err)
	}
	if got := Ready(file.Select(Selector{Custom, "nothing"}), nil); len(got) > 0 {
		t.Errorf("ready are %v of a pipeline that is not there", got)
	}
	if got := Ready(file.Select(Selector{Custom, "groups"}), make([]State, 4)); len(got) > 0 {
		t.Errorf("ready are %v with states of another pipeline", got)
	}
	if got := titles(Ready(file.Select(Selector{Custom, "line"}), []State{Done()})); got != "B" {
		t.Errorf("ready are %s with one state, want B", got)
	}
}

// randomPipeline draws the text of a pipeline.
func randomPipeline(t *rapid.T) string {
	var text strings.Builder
	text.WriteString("pipelines:\n  default:\n")
	step := func(indent, key string) {
		fields := []string{rapid.SampledFrom([]string{"runs-on: [self.hosted, x]", "runs-on: [self.hosted, $Y]", "size: 2x", "type: pipeline"}).Draw(t, "runner")}
		for _, field := range []string{"trigger: manual", "condition: {changesets: {includePaths: [a]}}", "condition: {state: a}", "on-fail: {strategy: ignore}", "on-fail: {strategy: retry}", "fail-fast: true", "concurrency-group: g", "deployment: test"} {
			name, _, _ := strings.Cut(field, ":")
			if rapid.IntRange(0, 7).Draw(t, "field") == 0 && !strings.Contains(strings.Join(fields, " "), name+":") {
				fields = append(fields, field)
			}
		}
		fmt.Fprintf(&text, "%s- %s: {%s}\n", indent, key, strings.Join(fields, ", "))
	}
	steps := func(indent string) {
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			step(indent, "step")
		}
	}
	for range rapid.IntRange(1, 5).Draw(t, "nodes") {
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			fmt.Fprintf(&text, "    - parallel:\n        fail-fast: %v\n        steps:\n", rapid.Bool().Draw(t, "fail-fast"))
			steps("        ")
		case 1:
			text.WriteString("    - stage:\n")
			if rapid.Bool().Draw(t, "manual") {
				text.WriteString("        trigger: manual\n")
			}
			text.WriteString("        steps:\n")
			steps("        ")
		default:
			step("    ", "step")
		}
	}
	if rapid.Bool().Draw(t, "final") {
		step("    ", "final")
	}
	return text.String()
}

// before returns the steps that must have ended before a step may start.
func before(p Pipeline) map[int][]int {
	result := map[int][]int{}
	var sequence func(nodes []Node, earlier []int)
	sequence = func(nodes []Node, earlier []int) {
		for _, node := range nodes {
			switch node.Kind {
			case OneStep:
				result[node.Step] = earlier
			case Stage:
				sequence(node.Nodes, earlier)
			case Parallel:
				for _, child := range node.Nodes {
					sequence([]Node{child}, earlier)
				}
			}
			earlier = append(append([]int{}, earlier...), indexes(node)...)
		}
	}
	sequence(p.Order, nil)
	return result
}

func TestReadyStepsHaveNotStartedAndNothingBeforeThemIsUnfinished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		file, err := Parse([]byte(randomPipeline(t)))
		if err != nil {
			t.Fatal(err)
		}
		p := file.Select(Selector{Type: Default})
		states := make([]State, len(p.Steps))
		for i := range states {
			states[i] = State{
				Name:   rapid.SampledFrom([]string{"", StatePending, StateReady, StateInProgress, StateCompleted, StateCompleted, StateCompleted, "NEW"}).Draw(t, "state"),
				Stage:  rapid.SampledFrom([]string{"", StagePending, StagePaused, StageHalted, "NEW"}).Draw(t, "stage"),
				Result: rapid.SampledFrom([]string{ResultSuccessful, ResultSuccessful, ResultFailed, ResultError, ResultStopped, ResultExpired, ResultNotRun, "NEW"}).Draw(t, "result"),
			}
		}
		earlier, groups := before(p), map[string]int{}
		for i, state := range states {
			if state.Name == StateInProgress {
				groups[p.Steps[i].ConcurrencyGroup]++
			}
		}
		for _, step := range Ready(p, states) {
			state := states[step.Index]
			if state.Name == StateInProgress || state.Name == StateCompleted || state.Stage == StagePaused || state.Stage == StageHalted {
				t.Fatalf("%s is ready in state %+v", step.Title(), state)
			}
			for _, i := range earlier[step.Index] {
				if states[i].Name != StateCompleted {
					t.Fatalf("%s is ready before %s, which is %+v", step.Title(), p.Steps[i].Title(), states[i])
				}
			}
			for i, other := range states {
				if step.Final && i != step.Index && other.Name == StateInProgress {
					t.Fatalf("the final step is ready while %s runs", p.Steps[i].Title())
				}
			}
			if step.FromHand && !state.reached() {
				t.Fatalf("%s is ready and nobody started it", step.Title())
			}
			if step.Child || len(step.Labels) == 0 && step.Unknown == "" {
				t.Fatalf("%s is ready and needs no runner", step.Title())
			}
			if groups[step.ConcurrencyGroup]++; step.ConcurrencyGroup != "" && groups[step.ConcurrencyGroup] > 1 {
				t.Fatalf("%s is ready and another one of its concurrency group runs or is ready", step.Title())
			}
		}
	})
}

func TestAPipelineRunsToItsEndByReadyAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Nothing holds back a step of these but the steps before it.
		text := strings.NewReplacer("trigger: manual", "max-time: 5", "condition: {changesets: {includePaths: [a]}}", "oidc: true", "condition: {state: a}", "oidc: true",
			"size: 2x", "runs-on: a", "type: pipeline", "runs-on: a").Replace(randomPipeline(t))
		file, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		p := file.Select(Selector{Type: Default})
		states, done := make([]State, len(p.Steps)), 0
		for ready := Ready(p, states); len(ready) > 0; ready = Ready(p, states) {
			step := rapid.SampledFrom(ready).Draw(t, "step")
			states[step.Index] = Done()
			done++
		}
		if done != len(p.Steps) {
			t.Fatalf("%d of %d steps were ready once\n%s", done, len(p.Steps), text)
		}
	})
}

func TestTheStepsOfTheAPIAreThoseOfTheFile(t *testing.T) {
	file, err := Parse([]byte("pipelines: {default: [step: {name: Build}, step: {script: [a]}, final: {name: Clean}]}"))
	if err != nil {
		t.Fatal(err)
	}
	p := file.Select(Selector{Type: Default})
	done := State{Name: StateCompleted, Result: ResultSuccessful}
	for name, c := range map[string]struct {
		names []string
		want  string
	}{
		"the same":            {[]string{"Build", "", "[Final Step] Clean"}, ""},
		"a default name":      {[]string{"Build", "Step 2", "Clean"}, ""},
		"another name":        {[]string{"Built", "", "Clean"}, `step 1 is "Built" at Bitbucket and "Build" in the file`},
		"a name for none":     {[]string{"Build", "Test", "Clean"}, `step 2 is "Test" at Bitbucket and "" in the file`},
		"one less":            {[]string{"Build", ""}, "Bitbucket lists 2 steps, the file has 3"},
		"one that is missing": {[]string{"Build", "", "Clean", "Clean"}, "Bitbucket lists 4 steps, the file has 3"},
	} {
		var reported []Reported
		for _, given := range c.names {
			reported = append(reported, Reported{Name: given, State: done})
		}
		states, unknown := p.Align(reported)
		if unknown != c.want || unknown == "" && (len(states) != 3 || states[2] != done) || unknown != "" && states != nil {
			t.Errorf("%s: %v and %q, want %q", name, states, unknown, c.want)
		}
	}
	if _, unknown := file.Select(Selector{Tags, "v1"}).Align(nil); unknown == "" {
		t.Error("an unknown pipeline is aligned")
	}
}
