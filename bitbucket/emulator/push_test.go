package emulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/pipelines"
)

var sprintf = fmt.Sprintf

func (b *bench) pushes(request PushRequest) Pushed {
	b.t.Helper()
	request.Workspace, request.Repository = "acme", "app"
	body, err := json.Marshal(request)
	if err != nil {
		b.t.Fatal(err)
	}
	return decode[Pushed](b.t, b.call(200, "POST", "/_emulator/push", string(body)).body)
}

// started returns the selectors of the pipelines that a push started.
func (b *bench) started(p Pushed) []string {
	var selectors []string
	for _, id := range p.Pipelines {
		s := b.pipeline(id).Target.Selector
		selectors = append(selectors, s.Type+":"+s.Pattern)
	}
	return selectors
}

func TestWhatAPushStarts(t *testing.T) {
	t.Parallel()
	const file = `pipelines:
  default: &p [step: {script: [sleep 60]}]
  branches: {feature/*: *p}
  tags: {v*: *p}
  bookmarks: {b: *p}
  pull-requests: {'**': *p}
  custom: {api: *p, web: *p}
triggers:
  repository-push: [{condition: 'glob(BITBUCKET_BRANCH, "feature/*")', pipelines: [api, web, nothing]}]
  pullrequest-push: [{condition: 'BITBUCKET_PR_DESTINATION_BRANCH == "main"', pipelines: [web]}]
`
	for name, c := range map[string]struct {
		request PushRequest
		want    []string
	}{
		"a branch":                    {PushRequest{}, []string{"default:"}},
		"a branch with a pattern":     {PushRequest{Branch: "feature/x"}, []string{"branches:feature/*", "custom:api", "custom:web"}},
		"a tag":                       {PushRequest{Tag: "v1"}, []string{"tags:v*"}},
		"a tag without pipeline":      {PushRequest{Tag: "x"}, nil},
		"a bookmark":                  {PushRequest{Bookmark: "b"}, []string{"bookmarks:b"}},
		"a bookmark without pattern":  {PushRequest{Bookmark: "c"}, []string{"default:"}},
		"a pull request":              {PushRequest{Branch: "x", PullRequest: "main"}, []string{"default:", "pull-requests:**", "custom:web"}},
		"a pull request of a feature": {PushRequest{Branch: "feature/x", PullRequest: "x"}, []string{"branches:feature/*", "pull-requests:**", "custom:api", "custom:web"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{ParseLag: -1})
			c.request.File = file
			if got := b.started(b.pushes(c.request)); !cmp.Equal(got, c.want) {
				t.Errorf("started %q, want %q", got, c.want)
			}
		})
	}
	b := start(t, Options{ParseLag: -1})
	head := b.push("main", file).Commit
	tagged := b.pushes(PushRequest{Tag: "v2"})
	if tagged.Commit != head || !cmp.Equal(b.started(tagged), []string{"tags:v*"}) {
		t.Errorf("the tag is of %s and started %q, want %s", tagged.Commit, b.started(tagged), head)
	}
	if got := b.pipeline(tagged.Pipeline).Target; got.RefType != "tag" || got.RefName != "v2" {
		t.Errorf("target %+v, want the tag", got)
	}
	for _, wrong := range []string{`"tag":"a","bookmark":"b"`, `"tag":"a","pullRequest":"main"`, `"runs":"x"`, `"file":"x","files":{"bitbucket-pipelines.yml":"x"}`, `"tag":"v3","branch":"nothing"`} {
		b.call(400, "POST", "/_emulator/push", `{"workspace":"acme","repository":"app",`+wrong+`}`)
	}
}

func TestPipelinesAreImportedFromFilesOfTheWorkspace(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	const exported = "definitions: {pipelines: {build: [step: {name: %s, script: [x]}]}}"
	b.call(200, "POST", "/_emulator/push", `{"workspace":"acme","repository":"web","file":"`+sprintf(exported, "Web")+`"}`)
	const file = "definitions: {imports: {shared: ci/shared.yml}}\npipelines: {default: {import: '%s'}}"
	first := b.pushes(PushRequest{File: sprintf(file, "build@shared"), Files: map[string]string{"ci/shared.yml": sprintf(exported, "Shared")}})
	b.pushes(PushRequest{File: sprintf(file, "web:main:build")})
	b.pushes(PushRequest{File: sprintf(file, "build@shared")}) // the file is still there
	b.pushes(PushRequest{File: sprintf(file, "web:nothing:build")})
	for id, want := range map[string]string{"1": "Shared", "2": "Web", "3": "Shared"} {
		if got := b.steps(id); len(got) != 1 || got[0].Name != want {
			t.Errorf("%s has the steps %+v, want %s", id, got, want)
		}
	}
	b.wantStates("4", "COMPLETED/ERROR")
	if got := b.call(200, "GET", "/2.0/repositories/acme/app/src/"+first.Commit+"/ci/shared.yml", "").body; got != sprintf(exported, "Shared") {
		t.Errorf("the imported file is %q", got)
	}
}

func TestADynamicPipelineIsNotThatOfTheFile(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	pushed := b.pushes(PushRequest{File: "pipelines: {default: [step: {name: File, script: [x]}]}", Runs: "pipelines: {default: [step: {name: Other, script: [x]}]}"})
	if got := b.steps(pushed.Pipeline)[0].Name; got != "Other" {
		t.Errorf("runs %s, want Other", got)
	}
	if got := b.call(200, "GET", "/2.0/repositories/acme/app/src/main/bitbucket-pipelines.yml", "").body; got != "pipelines: {default: [step: {name: File, script: [x]}]}" {
		t.Errorf("the file is %q", got)
	}
}

func TestVariablesOfACustomPipelineDecideAboutConditions(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	b.push("main", `pipelines: {custom: {deploy: [variables: [{name: WHERE, default: test}], step: {script: [x]}, step: {condition: {state: 'WHERE == "production"'}, script: [x]}]}}`)
	const body = `{"target":{"type":"pipeline_ref_target","ref_type":"branch","ref_name":"main","selector":{"type":"custom","pattern":"deploy"}}%s}`
	b.call(201, "POST", appPipelines, sprintf(body, ""))
	b.call(201, "POST", appPipelines, sprintf(body, `,"variables":[{"key":"WHERE","value":"production"}]`))
	b.wantStates("1", passed, passed, notRun)
	b.wantStates("2", passed, passed, passed)
}

func TestQueuedStepsHaveAFileThatDefinesThem(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.online("my.group", "1.0")
	b.queue(3, "self.hosted", "my.group", "1.0")
	p := b.pipeline("1")
	file, err := pipelines.Parse([]byte(b.call(200, "GET", "/2.0/repositories/acme/app/src/"+p.Target.Commit.Hash+"/bitbucket-pipelines.yml", "").body))
	if err != nil {
		t.Fatal(err)
	}
	model := file.Select(pipelines.Selector{Type: p.Target.Selector.Type, Pattern: p.Target.Selector.Pattern})
	var reported []pipelines.Reported
	for _, st := range b.steps("1") {
		reported = append(reported, pipelines.Reported{Name: st.Name, State: pipelines.State{Name: st.State.Name}})
	}
	states, unknown := model.Align(reported)
	if unknown != "" {
		t.Fatal(unknown)
	}
	ready := pipelines.Ready(model, states)
	if len(ready) != 2 || !slices.Equal(ready[0].Labels, pipelines.Labels{"self.hosted", "my.group", "1.0"}) {
		t.Errorf("ready are %+v, want two steps with those labels, beside the one that runs", ready)
	}
}

func TestAnswersAboutPipelinesLag(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	id := b.push("main", "pipelines: {default: [step: {script: [sleep 10]}, step: {script: [sleep 10]}]}").Pipeline
	b.faults(FaultRule{Method: "GET", Path: "*/steps", StaleFor: "15s"})
	steps := func() (states []string) {
		for _, st := range b.steps(id) {
			states = append(states, st.State.Name)
		}
		return states
	}
	const pending, running, done = "PENDING", "IN_PROGRESS", "COMPLETED"
	for i, want := range [][]string{{running, pending}, {running, pending}, {running, pending}, {done, running}, {done, done}} { // at 0 s, 10 s and so on
		if got := steps(); !cmp.Equal(got, want) {
			t.Errorf("at %d s: %v, want %v", 10*i, got, want)
		}
		b.clock.Step(10 * time.Second)
	}
	b.faults()
	b.wantStates(id, passed, passed, passed)
}

func TestFaultsHitPipelinesStepsAndFiles(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	b.push("main", "pipelines: {default: [step: {script: [x]}]}")
	for pattern, path := range map[string]string{
		"*/pipelines": appPipelines, "*/pipelines/*": appPipelines + "/1", "*/steps": appPipelines + "/1/steps",
		"*/src/*": "/2.0/repositories/acme/app/src/main/bitbucket-pipelines.yml",
	} {
		b.faults(FaultRule{Path: pattern, Status: 503, Count: 1}, FaultRule{Path: pattern, Status: 429, Count: 1})
		for _, want := range []int{503, 429, 200} {
			b.call(want, "GET", path, "")
		}
	}
}

func TestDeliveriesAreLostDoubledAndLate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault     string
		now, then int
	}{
		"none":          {`[]`, 1, 0},
		"lost":          {`[{"event":"repo:*","lost":true}]`, 0, 0},
		"doubled":       {`[{"event":"repo:push","doubled":true,"count":1}]`, 2, 0},
		"late":          {`[{"event":"repo:push","late":"30s"}]`, 0, 1},
		"another event": {`[{"event":"pipeline:*","lost":true}]`, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{})
			events := b.events("repo:push", "pullrequest:created")
			pushes := func() (n int) {
				b.call(204, "POST", "/_emulator/events", `{"workspace":"acme","repository":"app","event":"pullrequest:created","branch":"main"}`)
				for got := range events {
					if got.key != "repo:push" {
						break
					}
					n++
				}
				return n
			}
			b.call(204, "POST", "/_emulator/faults", `{"rules":[],"deliveries":`+c.fault+`}`)
			b.push("main", "")
			if got := pushes(); got != c.now {
				t.Errorf("%d deliveries at once, want %d", got, c.now)
			}
			b.clock.Step(30 * time.Second)
			b.server.State()
			if got := pushes(); got != c.then {
				t.Errorf("%d deliveries after 30 s, want %d", got, c.then)
			}
		})
	}
	start(t, Options{}).call(400, "POST", "/_emulator/faults", `{"rules":[],"deliveries":[{"late":"x"}]}`)
}
