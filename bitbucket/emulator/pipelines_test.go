package emulator

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

const appPipelines = "/2.0/repositories/acme/app/pipelines"

// file has every kind of step: on runners, side by side, behind a gate, and on Bitbucket's
// own runners.
const file = `
pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, my.group], script: [sleep 10]}
    - parallel:
        - step: {name: Test, runs-on: [self.hosted, my.group], script: [x]}
        - step: {script: [sleep 30]}
    - step: {name: Ship, runs-on: [self.hosted, my.group], trigger: manual, script: [x]}
  custom:
    nightly:
      - step: {name: Nightly, runs-on: [self.hosted, my.group], script: [x]}
`

const onMain = `{"target":{"type":"pipeline_ref_target","ref_type":"branch","ref_name":"main"}}`

func (b *bench) push(branch, file string) Pushed {
	b.t.Helper()
	body, err := json.Marshal(PushRequest{Workspace: "acme", Repository: "app", Branch: branch, File: file})
	if err != nil {
		b.t.Fatal(err)
	}
	return decode[Pushed](b.t, b.call(200, "POST", "/_emulator/push", string(body)).body)
}

func (b *bench) pipeline(id string) pipelines.Body {
	b.t.Helper()
	return decode[pipelines.Body](b.t, b.call(200, "GET", appPipelines+"/"+url.PathEscape(id), "").body)
}

func (b *bench) steps(id string) []pipelines.StepBody {
	b.t.Helper()
	return decode[page[pipelines.StepBody]](b.t, b.call(200, "GET", appPipelines+"/"+url.PathEscape(id)+"/steps", "").body).Values
}

// states returns a pipeline's state and those of its steps, as "NAME", "NAME/STAGE" or
// "NAME/RESULT".
func (b *bench) states(id string) []string {
	b.t.Helper()
	short := func(s pipelines.State) string {
		switch {
		case s.Result != nil:
			return s.Name + "/" + s.Result.Name
		case s.Stage != nil:
			return s.Name + "/" + s.Stage.Name
		}
		return s.Name
	}
	states := []string{short(b.pipeline(id).State)}
	for _, st := range b.steps(id) {
		states = append(states, short(st.State))
	}
	return states
}

func (b *bench) wantStates(id string, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.states(id)); diff != "" {
		b.t.Errorf("states: %s", diff)
	}
}

func TestAPushedPipelineRunsStepByStep(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	runner := b.online("my.group")
	id := b.push("main", file).Pipeline
	b.wantStates(id, "PARSING")
	if p := b.pipeline(id); p.Target.Selector != nil {
		t.Errorf("selector %+v while PARSING, want null", p.Target.Selector)
	}
	b.clock.Step(defaultParseLag)
	b.wantStates(id, "IN_PROGRESS/RUNNING", "IN_PROGRESS/RUNNING", "PENDING", "PENDING", "PENDING")
	if p := b.pipeline(id); p.Target.Selector == nil || p.Target.Selector.Type != "default" || p.Trigger.Name != "PUSH" {
		t.Errorf("target %+v, trigger %+v", p.Target, p.Trigger)
	}
	b.clock.Step(10 * time.Second)
	b.set(runner, ActionIdle, "")
	b.wantStates(id, "IN_PROGRESS/RUNNING", "COMPLETED/SUCCESSFUL", "IN_PROGRESS/RUNNING", "IN_PROGRESS/RUNNING", "PENDING")
	b.set(runner, ActionIdle, "")
	b.clock.Step(30 * time.Second)
	b.wantStates(id, "IN_PROGRESS/PAUSED", "COMPLETED/SUCCESSFUL", "COMPLETED/SUCCESSFUL", "COMPLETED/SUCCESSFUL", "PENDING/PAUSED")
	b.call(204, "POST", "/_emulator/steps/"+url.PathEscape(b.steps(id)[3].UUID)+"/start", "")
	b.call(409, "POST", "/_emulator/steps/"+url.PathEscape(b.steps(id)[3].UUID)+"/start", "")
	b.set(runner, ActionIdle, "")
	b.wantStates(id, "COMPLETED/SUCCESSFUL", "COMPLETED/SUCCESSFUL", "COMPLETED/SUCCESSFUL", "COMPLETED/SUCCESSFUL", "COMPLETED/SUCCESSFUL")
	if p := b.pipeline(id); p.Duration != 42 || p.BuildTime != 40 || p.CompletedOn.IsZero() {
		t.Errorf("took %d s, of which %d s in steps, until %s", p.Duration, p.BuildTime, p.CompletedOn)
	}
}

func TestStepsWithTheSameLockRunOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]string{"deployment": "deployment: production", "concurrency group": "concurrency-group: x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{ParseLag: -1})
			b.online("my.group")
			b.online("my.group")
			for range 3 {
				b.push("main", "pipelines: {default: [step: {runs-on: [my.group], "+lock+", script: [x]}]}")
			}
			halted := []string{"IN_PROGRESS/HALTED", "PENDING/HALTED"}
			b.wantStates("1", "IN_PROGRESS/RUNNING", "IN_PROGRESS/RUNNING")
			b.wantStates("2", halted...)
			b.wantStates("3", halted...)
			if got := decode[page[pipelines.Body]](t, b.call(200, "GET", appPipelines+"?status=HALTED", "").body).Size; got != 2 {
				t.Errorf("%d pipelines are HALTED, want 2", got)
			}
			for _, r := range b.server.State().Runners {
				if r.StepUUID != "" {
					b.set(r.UUID, ActionIdle, "")
				}
			}
			b.wantStates("2", "IN_PROGRESS/RUNNING", "IN_PROGRESS/RUNNING")
			b.wantStates("3", halted...)
			b.call(204, "POST", appPipelines+"/2/stopPipeline", "")
			b.wantStates("3", "IN_PROGRESS/RUNNING", "IN_PROGRESS/RUNNING")
		})
	}
}

func TestNothingRunsAfterAFailedStep(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	id := b.push("main", file).Pipeline
	b.wantStates(id, "COMPLETED/FAILED", "COMPLETED/FAILED", "COMPLETED/NOT_RUN", "COMPLETED/NOT_RUN", "COMPLETED/NOT_RUN")
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	id := b.push("main", "pipelines: {default: shared@main}").Pipeline
	b.wantStates(id, "COMPLETED/ERROR")
	if got := decode[page[pipelines.Body]](t, b.call(200, "GET", appPipelines+"?status=ERROR", "").body); got.Size != 1 {
		t.Errorf("%d pipelines in ERROR, want 1", got.Size)
	}
	if got := b.push("main", "pipelines: {custom: {x: [step: {script: [x]}]}}").Pipeline; got != "" {
		t.Errorf("a push that no selector matches started %s", got)
	}
}

func TestPipelinesAreFoundByUUIDAndByBuildNumber(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.queue(1, "nobody")
	b.queue(1, "nobody")
	body := `{"workspace":"acme","repository":"web","labels":["nobody"]}`
	b.call(200, "POST", "/_emulator/steps", body)
	second := b.pipeline("2")
	if diff := cmp.Diff(second, b.pipeline(second.UUID)); diff != "" || second.BuildNumber != 2 {
		t.Errorf("build number %d, by UUID: %s", second.BuildNumber, diff)
	}
	web := decode[pipelines.Body](t, b.call(200, "GET", "/2.0/repositories/acme/web/pipelines/1", "").body)
	if web.Repository.FullName != "acme/web" {
		t.Errorf("build 1 of web is of %s", web.Repository.FullName)
	}
	b.call(404, "GET", appPipelines+"/3", "")
	b.call(404, "GET", "/2.0/repositories/acme/web/pipelines/"+url.PathEscape(second.UUID), "")
	for _, root := range []string{"/2.0", "/internal"} {
		step := decode[page[pipelines.StepBody]](t, b.call(200, "GET", root+"/repositories/acme/app/pipelines/2/steps/", "").body).Values[0]
		one := root + "/repositories/acme/app/pipelines/2/steps/" + url.PathEscape(step.UUID)
		if got := decode[pipelines.StepBody](t, b.call(200, "GET", one, "").body); !cmp.Equal(got, step) {
			t.Errorf("one step: %s", cmp.Diff(step, got))
		}
	}
}

func TestObjectsHaveWhatOtherClientsRead(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.queue(1, "nobody")
	p := b.pipeline("1")
	self := b.url + "/2.0/repositories/acme/app/pipelines/" + url.PathEscape(p.UUID)
	want := resource.Links{"self": {Href: self}, "steps": {Href: self + "/steps"}, "html": {Href: b.url + "/acme/app/pipelines/results/1"}}
	if diff := cmp.Diff(want, p.Links); diff != "" {
		t.Errorf("links: %s", diff)
	}
	if got := decode[pipelines.Body](t, b.call(200, "GET", self, "").body); got.UUID != p.UUID {
		t.Errorf("the link leads to %s", got.UUID)
	}
	if p.Creator.UUID != resource.UserUUID || p.RunNumber != 1 || p.Trigger.Name == "" || p.Repository.Links["html"].Href == "" || p.Target.Commit.Links["self"].Href == "" {
		t.Errorf("pipeline %+v", p)
	}
	repo := decode[resource.Repository](t, b.call(200, "GET", "/2.0/repositories/acme/app", "").body)
	if repo.MainBranch.Name != "main" || repo.Owner.UUID != WorkspaceUUID || repo.Project.Key == "" || repo.Links["self"].Href != b.url+"/2.0/repositories/acme/app" {
		t.Errorf("repository %+v", repo)
	}
	if w := decode[resource.Workspace](t, b.call(200, "GET", "/2.0/workspaces/acme", "").body); w.Links["html"].Href != b.url+"/acme" {
		t.Errorf("workspace %+v", w)
	}
}

func TestRepositoriesAreListedByTheirLastChange(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.clock.Step(time.Minute)
	b.call(200, "POST", "/_emulator/steps", `{"workspace":"acme","repository":"web","labels":["nobody"]}`)
	list := decode[page[resource.Repository]](t, b.call(200, "GET", "/2.0/repositories/acme?sort=-updated_on&pagelen=1", "").body)
	if list.Size != 2 || list.Values[0].Slug != "web" || list.Next == "" {
		t.Errorf("list %+v, want web first, and a next page", list)
	}
}

func TestAllStepsAreOnOnePage(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.queue(14, "nobody")
	got := decode[page[pipelines.StepBody]](t, b.call(200, "GET", appPipelines+"/1/steps", "").body)
	if len(got.Values) != 14 || got.Size != 14 || got.PageLen != 10 || got.Next != "" {
		t.Errorf("%d steps, size %d, pagelen %d, next %q", len(got.Values), got.Size, got.PageLen, got.Next)
	}
}

func TestALogIsThereOnceTheStepStarts(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.online("my.group")
	steps := b.queue(2, "my.group")
	logs := map[string]int{}
	for _, st := range steps {
		r, err := b.try("GET", appPipelines+"/1/steps/"+url.PathEscape(st)+"/log", "")
		if err != nil {
			t.Fatal(err)
		}
		if r.status == 200 && !strings.Contains(r.body, "sleep 60") {
			t.Errorf("log %q", r.body)
		}
		logs[fmt.Sprint(r.status)]++
	}
	if !cmp.Equal(logs, map[string]int{"200": 1, "404": 1}) {
		t.Errorf("logs of a running and a waiting step: %v", logs)
	}
}

func TestPipelinesAreFiltered(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.online("my.group")
	b.push("main", file)                                                                                                                                                                          // 1: running once it is parsed
	b.queue(1, "nobody")                                                                                                                                                                          // 2: failed
	b.clock.Step(defaultParseLag)                                                                                                                                                                 // what is created from now on is PARSING
	b.push("topic", file)                                                                                                                                                                         // 3
	b.call(201, "POST", appPipelines, `{"target":{"type":"pipeline_commit_target","commit":{"hash":"`+b.pipeline("1").Target.Commit.Hash+`"},"selector":{"type":"custom","pattern":"nightly"}}}`) // 4
	for query, want := range map[string][]int{
		"":                                      {1, 2, 3, 4},
		"sort=-created_on":                      {4, 3, 2, 1},
		"status=BUILDING":                       {1},
		"status=IN_PROGRESS":                    nil,
		"status=FAILED&status=PARSING&status=X": {2, 3, 4},
		"target.branch=topic":                   {3},
		"target.selector.type=DEFAULT":          {1, 2},
		"target.selector.type=default":          nil,
		"trigger_type=MANUAL":                   {4},
		"q=state.name%3D%22X%22":                {1, 2, 3, 4},
		"page=2&pagelen=3":                      {4},
		"target.commit.hash=" + b.pipeline("3").Target.Commit.Hash:      {3},
		"target.commit.hash=" + b.pipeline("3").Target.Commit.Hash[:12]: nil,
	} {
		t.Run(query, func(t *testing.T) {
			list := decode[page[pipelines.Body]](t, b.call(200, "GET", appPipelines+"?"+query, "").body)
			var got []int
			for _, p := range list.Values {
				got = append(got, p.BuildNumber)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestFieldsSelectPartsOfAnAnswer(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.queue(1, "nobody")
	for fields, want := range map[string]string{
		"values.build_number,values.state.name,size": `{"size":1,"values":[{"build_number":1,"state":{"name":"COMPLETED"}}]}`,
		"values.trigger.*":                           `{"values":[{"trigger":{"name":"PUSH","type":"pipeline_trigger_push"}}]}`,
		"-values,-page,+values.x":                    `{"pagelen":10,"size":1}`,
	} {
		if got := b.call(200, "GET", appPipelines+"?fields="+url.QueryEscape(fields), "").body; got != want {
			t.Errorf("fields=%s: got %s, want %s", fields, got, want)
		}
	}
}

func TestSourcesAreReadByCommitAndByBranch(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	const src = "/2.0/repositories/acme/app/src/"
	b.call(404, "GET", src+"main/bitbucket-pipelines.yml", "")
	first := b.push("main", file).Commit
	b.push("feature/x", "pipelines: {}")
	b.queue(1, "nobody")
	for ref, want := range map[string]string{
		first: file, first[:12]: file, "feature%2Fx": "pipelines: {}",
	} {
		if got := b.call(200, "GET", src+ref+"/bitbucket-pipelines.yml", "").body; got != want {
			t.Errorf("%s: got %q, want %q", ref, got, want)
		}
	}
	if got := b.call(200, "GET", src+"main/bitbucket-pipelines.yml", "").body; !strings.Contains(got, `- "nobody"`) {
		t.Errorf("main after steps were queued:\n%s", got)
	}
	b.call(404, "GET", src+"main/other", "")
	b.call(404, "GET", src+"nope/bitbucket-pipelines.yml", "")
}
