package clients

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// perScope is how many runners each scope has: more than a page of ten.
const perScope = 12

// before is how many pipelines there are before a client starts one, more than a page too.
const before = 12

const file = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, my.group], script: [sleep 60]}
    - parallel:
        - step: {name: Test, runs-on: [self.hosted, my.group], script: [echo]}
        - step: {runs-on: [self.hosted, my.group], script: [echo]}
`

// answers are what a client got from Bitbucket. A client fills what it can do.
type answers struct {
	// Names of runners.
	WorkspaceRunners  []string `json:"workspaceRunners"`
	RepositoryRunners []string `json:"repositoryRunners"`
	// Build numbers, newest first.
	Pipelines []int `json:"pipelines"`
	// ByUUID is the build number of the first pipeline, ByNumber its UUID.
	ByUUID   int    `json:"byUUID"`
	ByNumber string `json:"byNumber"`
	// Steps are the UUIDs of the first pipeline's steps.
	Steps []string `json:"steps"`
	// Step is the state of the first of them, Log its log.
	Step string `json:"step"`
	Log  string `json:"log"`
	// Started is the build number of a pipeline that the client started, Stopped its result
	// after the client stopped it.
	Started int    `json:"started"`
	Stopped string `json:"stopped"`
	// Building are the build numbers in the status BUILDING.
	Building []int `json:"building"`
}

// stage is an emulator with runners in both scopes and pipelines, of which the first runs.
type stage struct {
	url     string
	control *emulator.Control
	want    answers
}

func newStage(t *testing.T) *stage {
	t.Helper()
	url, _ := emulator.NewTestServer(t, emulator.Options{RateLimit: -1, ParseLag: -1})
	s := &stage{url: url, control: emulator.NewControl(url)}
	for n := range perScope {
		s.register(t, "/2.0/workspaces/acme", fmt.Sprintf("workspace-%d", n))
		s.register(t, "/2.0/repositories/acme/app", fmt.Sprintf("repository-%d", n))
		s.want.WorkspaceRunners = append(s.want.WorkspaceRunners, fmt.Sprintf("workspace-%d", n))
		s.want.RepositoryRunners = append(s.want.RepositoryRunners, fmt.Sprintf("repository-%d", n))
	}
	state := s.state(t)
	if err := s.control.SetRunner(t.Context(), state.Runners[0].UUID, emulator.ActionOnline, ""); err != nil {
		t.Fatal(err)
	}
	for n := range before {
		pushed, err := s.control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: "app", File: file})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			s.want.ByNumber = pushed.Pipeline
		}
		s.want.Pipelines = append([]int{n + 1}, s.want.Pipelines...)
	}
	for _, st := range s.state(t).Steps {
		if st.PipelineUUID == s.want.ByNumber {
			s.want.Steps = append(s.want.Steps, st.UUID)
		}
	}
	s.want.ByUUID, s.want.Step, s.want.Started, s.want.Stopped = 1, "IN_PROGRESS", before+1, "STOPPED"
	return s
}

func (s *stage) register(t *testing.T, scope, name string) {
	t.Helper()
	body := fmt.Sprintf(`{"name":%q,"labels":["self.hosted","linux","my.group"]}`, name)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+scope+"/pipelines-config/runners", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("register %s: %s, %v", name, resp.Status, err)
	}
}

func (s *stage) state(t *testing.T) emulator.State {
	t.Helper()
	state, err := s.control.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// check compares what a client got with what there is. change drops what the client cannot
// do, and what it reads differently.
func (s *stage) check(t *testing.T, got answers, change func(want *answers)) {
	t.Helper()
	want := s.want
	want.Pipelines = slices.Clone(want.Pipelines)
	if change != nil {
		change(&want)
	}
	if !strings.Contains(got.Log, "+ sleep 60\n") {
		t.Errorf("log %q", got.Log)
	}
	got.Log = ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
