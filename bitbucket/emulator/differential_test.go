package emulator_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	emulated "bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

var (
	pipelineCount = flag.Int("differential.pipelines", 2000, "how many random pipelines the emulator and package pipelines must agree on")
	firstSeed     = flag.Uint64("differential.seed", 1, "the seed of the first one")
)

// TestReadyAgreesWithTheEmulator plays random pipelines in the emulator, and after each event
// compares the steps that wait for a runner there with those that package pipelines derives from
// the file and the API. The two share no code.
func TestReadyAgreesWithTheEmulator(t *testing.T) {
	t.Parallel()
	const shards, perServer = 4, 25
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			worlds := map[emulated.StepStages]*world{}
			waited, compared := 0, 0
			for n := shard; n < *pipelineCount && !t.Failed(); n += shards {
				seed := *firstSeed + uint64(n)
				stages := []emulated.StepStages{emulated.StagesNone, emulated.StagesReached, emulated.StagesAll}[seed%3]
				w := worlds[stages]
				if w == nil || w.played == perServer {
					w = newWorld(t, stages)
					worlds[stages] = w
				}
				w.play(seed)
				waited, compared = waited+w.waited, compared+w.compared
			}
			t.Logf("compared %d states of steps, %d of them waiting", compared, waited)
			if waited < *pipelineCount/shards {
				t.Error("hardly any step has waited")
			}
		})
	}
}

// world is an emulator whose runners are all busy or cordoned, so that the test decides which
// step runs.
type world struct {
	t       *testing.T
	stages  emulated.StepStages
	clock   *clocktesting.FakeClock
	server  *emulator.Server
	workers []string // runners that take steps by hand alone
	played  int      // how many files
	*rand.Rand

	seed   uint64
	file   string
	events []string
	models map[string]pipelines.Pipeline // by the UUID of the pipeline at Bitbucket
	// How many comparisons there were, and how many steps waited in them.
	compared, waited int
}

const app = "/2.0/repositories/acme/app/"

func newWorld(t *testing.T, stages emulated.StepStages) *world {
	clock := clocktesting.NewFakeClock(time.Date(2026, 8, 1, 10, 0, 0, 0, time.UTC))
	w := &world{t: t, stages: stages, clock: clock, server: emulator.New(emulator.Options{
		AssignLag: -1, ParseLag: -1, RateLimit: -1, OfflineAfter: 1000 * time.Hour, KeepSteps: 1, StepStages: stages, Clock: clock,
	})}
	for n := range 7 {
		var runner struct {
			UUID string `json:"uuid"`
		}
		w.call("POST", "/2.0/workspaces/acme/pipelines-config/runners", map[string]any{"name": "r", "labels": []string{"self.hosted", "linux", "x", "y", "o"}}, &runner)
		path := "/_emulator/runners/" + url.PathEscape(runner.UUID)
		if n == 0 { // it is busy for ever, so that steps can wait
			w.call("POST", path+"/online", nil, nil)
			w.call("POST", path+"/step", nil, nil)
			continue
		}
		w.call("POST", path+"/cordon", nil, nil)
		w.call("POST", path+"/online", nil, nil)
		w.workers = append(w.workers, path)
	}
	return w
}

// call calls the emulator and fails the test unless the answer is a 2xx.
func (w *world) call(method, path string, in, out any) {
	w.t.Helper()
	answer := w.try(method, path, in)
	if answer.Code >= http.StatusMultipleChoices {
		w.t.Fatalf("%s %s: %d %s\n%s", method, path, answer.Code, answer.Body, w.story())
	}
	switch to := out.(type) {
	case nil:
	case *string:
		*to = answer.Body.String()
	default:
		if err := json.Unmarshal(answer.Body.Bytes(), out); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, answer.Body)
		}
	}
}

func (w *world) try(method, path string, in any) *httptest.ResponseRecorder {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	if in == nil {
		body = nil
	}
	req := httptest.NewRequestWithContext(w.t.Context(), method, path, bytes.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
	answer := httptest.NewRecorder()
	w.server.ServeHTTP(answer, req)
	return answer
}

func (w *world) story() string {
	return fmt.Sprintf("seed %d, stages %s\n%s\n%s", w.seed, w.stages, w.file, strings.Join(w.events, "\n"))
}

func (w *world) note(format string, args ...any) {
	w.events = append(w.events, fmt.Sprintf(format, args...))
}

// play runs the pipelines of one random file.
func (w *world) play(seed uint64) {
	w.Rand = rand.New(rand.NewPCG(seed, 0))
	w.seed, w.events, w.models = seed, nil, map[string]pipelines.Pipeline{}
	w.compared, w.waited, w.played = 0, 0, w.played+1
	writer := &author{Rand: w.Rand}
	no, yes := false, true
	w.call("POST", "/_emulator/plan", emulator.StepPlan{Duration: "7s", Rules: []emulator.StepRule{
		{Step: writer.name(), Condition: &no}, {Step: "S", Condition: [...]*bool{&no, &yes}[w.IntN(2)]}, {Step: writer.name(), Condition: &yes},
		{Step: writer.name(), Result: "FAILED"}, {Step: writer.name(), Result: "FAILED", Count: 1 + w.IntN(3)}, {Step: writer.name(), Result: "ERROR", Count: w.IntN(2)},
	}}, nil)
	push := emulator.PushRequest{
		Workspace: "acme", Repository: "app",
		Branch: writer.pick("main", "feature/a", "feature/a/b", "feature/bb-1", "develop", "release/1"),
	}
	switch w.IntN(6) {
	case 0:
		push.Tag = "v1"
	case 1:
		push.PullRequest = "main"
	case 2:
		push.Changed = []string{"src/a.go"}
	}
	file, imported := writer.file(push.Tag != "", push.PullRequest != "")
	push.File, push.Files = file, map[string]string{"ci/shared.yml": imported}
	w.file = file + "# ci/shared.yml\n" + imported
	w.call("POST", "/_emulator/push", push, nil)
	w.note("push of %s %s %s", push.Branch, push.Tag, push.PullRequest)
	for range 30 {
		if steps := w.compare(); len(steps) > 0 {
			w.act(steps)
		} else if !w.rerun() {
			break
		}
	}
	for open := w.compare(); len(open) > 0; open = w.compare() { // a second time for the final step
		w.call("POST", "/_emulator/pipelines/"+url.PathEscape(open[0].PipelineUUID)+"/stop", nil, nil)
	}
}

// rerun runs one of the ended pipelines again, if there is one, some of the time.
func (w *world) rerun() bool {
	steps := w.server.State().Steps
	if len(steps) == 0 || w.IntN(3) > 0 {
		return false
	}
	st := steps[w.IntN(len(steps))]
	w.note("the pipeline of %s is run again", w.name(st))
	return w.try("POST", "/_emulator/pipelines/"+url.PathEscape(st.PipelineUUID)+"/rerun", emulator.RerunRequest{All: w.IntN(2) == 0}).Code == http.StatusNoContent
}

// act lets something happen to the open pipelines.
func (w *world) act(steps []emulator.StepInfo) {
	of := func(outcome string) (found []emulator.StepInfo) {
		for _, st := range steps {
			if st.Outcome == outcome {
				found = append(found, st)
			}
		}
		return found
	}
	step := func(st emulator.StepInfo) string { return "/_emulator/steps/" + url.PathEscape(st.UUID) }
	queued, paused := of(emulator.OutcomeQueued), of(emulator.OutcomePaused)
	for range 20 {
		i := w.IntN(len(w.workers))
		worker := w.workers[i]
		busy := slices.IndexFunc(steps, func(st emulator.StepInfo) bool {
			return "/_emulator/runners/"+url.PathEscape(st.RunnerUUID) == worker && st.Outcome == emulator.OutcomeRunning
		})
		switch choice := w.IntN(40); {
		case choice < 14 && len(queued) > 0 && busy < 0:
			st := queued[w.IntN(len(queued))]
			w.note("%s runs", w.name(st))
			w.call("POST", worker+"/step", map[string]string{"step": st.UUID}, nil)
			return
		case choice < 28 && busy >= 0:
			w.note("%s ends", w.name(steps[busy]))
			w.call("POST", worker+"/idle", nil, nil)
			return
		case choice < 33 && len(paused) > 0:
			st := paused[w.IntN(len(paused))]
			w.note("%s is started", w.name(st))
			w.call("POST", step(st)+"/start", nil, nil)
			return
		case choice < 38 && slices.ContainsFunc(of(emulator.OutcomeRunning), func(st emulator.StepInfo) bool { return len(st.Labels) == 0 }):
			w.note("time passes")
			w.clock.Step(7 * time.Second) // the longest duration
			return
		case choice == 39 && w.IntN(4) == 0:
			st := steps[w.IntN(len(steps))]
			w.note("the pipeline of %s is stopped", w.name(st))
			w.call("POST", "/_emulator/pipelines/"+url.PathEscape(st.PipelineUUID)+"/stop", nil, nil)
			return
		}
	}
}

func (w *world) name(st emulator.StepInfo) string { return fmt.Sprintf("%q %s", st.Name, st.UUID[1:5]) }

// compare compares the open pipelines, and returns their steps.
func (w *world) compare() []emulator.StepInfo {
	var open []emulator.StepInfo
	byPipeline := map[string]map[string]emulator.StepInfo{}
	for _, st := range w.server.State().Steps {
		if byPipeline[st.PipelineUUID] == nil {
			byPipeline[st.PipelineUUID] = map[string]emulator.StepInfo{}
		}
		byPipeline[st.PipelineUUID][st.UUID] = st
		switch st.Outcome {
		case emulator.OutcomeWaiting, emulator.OutcomeQueued, emulator.OutcomeRunning, emulator.OutcomePaused, emulator.OutcomeHalted:
			open = append(open, st)
		}
	}
	seen := map[string]bool{}
	for _, st := range open {
		if !seen[st.PipelineUUID] {
			seen[st.PipelineUUID] = true
			w.comparePipeline(st.PipelineUUID, byPipeline[st.PipelineUUID])
		}
	}
	return open
}

func (w *world) comparePipeline(uuid string, steps map[string]emulator.StepInfo) {
	model := w.model(uuid)
	var listed paging.Page[emulated.StepBody]
	w.call("GET", app+"pipelines/"+url.PathEscape(uuid)+"/steps", nil, &listed)
	reported := make([]pipelines.Reported, len(listed.Values))
	shown := make([]string, len(listed.Values))
	for i, st := range listed.Values {
		reported[i] = pipelines.Reported{Name: st.Name, State: pipelines.State{Name: st.State.Name}}
		if st.State.Stage != nil {
			reported[i].State.Stage = st.State.Stage.Name
		}
		if st.State.Result != nil {
			reported[i].State.Result = st.State.Result.Name
		}
		shown[i] = fmt.Sprintf("%q %s %+v %s", st.Name, st.UUID[1:5], reported[i].State, steps[st.UUID].Outcome)
	}
	states, unknown := model.Align(reported)
	if unknown != "" {
		w.t.Fatalf("the steps are not those of the file: %s\n%s\n%s", unknown, w.story(), strings.Join(shown, "\n"))
	}
	ready := map[int]bool{}
	for _, st := range pipelines.Ready(model, states) {
		ready[st.Index] = true
	}
	for i, st := range model.Steps {
		w.compared++
		waits := steps[listed.Values[i].UUID].Outcome == emulator.OutcomeQueued
		if waits {
			w.waited++
		}
		// Without stages nothing shows that a person has started a step or that a condition holds.
		hidden := w.stages == emulated.StagesNone && (st.FromHand || st.Conditional)
		if st.Unknown != "" || ready[i] == waits || waits && hidden {
			continue
		}
		w.t.Fatalf("step %d (%s) waits at Bitbucket: %v, is ready: %v\n%s\n%s\n%s", i, st.Title(), waits, ready[i], model.Selector, w.story(), strings.Join(shown, "\n"))
	}
}

// model reads the definition of a pipeline as a client does.
func (w *world) model(uuid string) pipelines.Pipeline {
	if read, ok := w.models[uuid]; ok {
		return read
	}
	var at emulated.Body
	w.call("GET", app+"pipelines/"+url.PathEscape(uuid), nil, &at)
	read := func(path string) *pipelines.File {
		var text string
		w.call("GET", app+"src/"+at.Target.Commit.Hash+"/"+path, nil, &text)
		file, err := pipelines.Parse([]byte(text))
		if err != nil {
			w.t.Fatalf("%s: %v\n%s", path, err, w.story())
		}
		return file
	}
	file := read("bitbucket-pipelines.yml")
	for _, path := range file.Imports() {
		file = file.With(path, read(path))
	}
	selector := pipelines.Selector{Type: at.Target.Selector.Type, Pattern: at.Target.Selector.Pattern}
	if kind, name := selector.Type, at.Target.RefName+at.Target.Source; at.Trigger.Name == emulated.TriggerPush && kind != pipelines.Custom {
		if kind == pipelines.Default {
			kind = pipelines.Branches
		}
		if started, ok := file.For(kind, name); !ok || started != selector {
			w.t.Fatalf("%s %s started %s at Bitbucket, want %s\n%s", kind, name, selector, started, w.story())
		}
	}
	model := file.Select(selector)
	if model.Unknown != "" {
		w.t.Fatalf("%s: unknown: %s\n%s", selector, model.Unknown, w.story())
	}
	w.models[uuid] = model
	return model
}
