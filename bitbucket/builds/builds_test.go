package builds_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/builds"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// answers are the bodies that a getter returns, one after the other.
type answers struct {
	bodies []string
	paths  []string
}

func (a *answers) Get(_ context.Context, class bitbucket.Class, _, path string, query url.Values) ([]byte, error) {
	a.paths = append(a.paths, strings.TrimSuffix(path+"?"+query.Encode(), "?"))
	if class != bitbucket.ClassQueue || len(a.bodies) == 0 {
		return nil, errors.New("unexpected")
	}
	body := a.bodies[0]
	a.bodies = a.bodies[1:]
	return []byte(body), nil
}

var app = bitbucket.Scope{Workspace: "{11111111-1111-4111-8111-111111111111}", Repository: "{22222222-2222-4222-8222-222222222222}"}

const below = "/2.0/repositories/%7B11111111-1111-4111-8111-111111111111%7D/%7B22222222-2222-4222-8222-222222222222%7D"

func TestLivePipelinesOfAllPages(t *testing.T) {
	a := &answers{bodies: []string{
		`{"page":1,"size":3,"pagelen":2,"values":[
		  {"uuid":"{a}","build_number":12,"run_number":"2","created_on":"2026-10-01T10:00:00.123456Z","state":{"name":"PARSING"},"target":{"selector":null,"commit":{"hash":"abc"}}},
		  {"uuid":"{b}","build_number":11,"state":{"name":"IN_PROGRESS","stage":{"name":"RUNNING"}},"repository":{"uuid":"{R}","full_name":"acme/app"},
		   "target":{"selector":{"type":"PULL_REQUESTS","pattern":"**"},"commit":{"hash":"def"}}}]}`,
		`{"page":2,"size":3,"pagelen":2,"values":[{"uuid":"{c}","build_number":10,"run_number":1,"state":{"name":"COMPLETED"},"target":{"selector":{"type":"default"}}}]}`,
	}}
	got, err := builds.Live(t.Context(), a, app)
	if err != nil {
		t.Fatal(err)
	}
	want := []builds.Pipeline{
		{UUID: "{a}", Build: 12, Run: 2, CreatedOn: time.Date(2026, 10, 1, 10, 0, 0, 123456000, time.UTC), Commit: "abc"},
		{UUID: "{b}", Build: 11, Repository: builds.Repository{UUID: "{r}", FullName: "acme/app"}, Commit: "def", Parsed: true, Selector: pipelines.Selector{Type: pipelines.PullRequests, Pattern: "**"}},
		{UUID: "{c}", Build: 10, Run: 1, Completed: true, Parsed: true, Selector: pipelines.Selector{Type: pipelines.Default}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pipelines (-want +got):\n%s", diff)
	}
	first := below + "/pipelines?page=1&pagelen=100&sort=-created_on&status=PARSING&status=PENDING&status=BUILDING&status=PAUSED&status=HALTED"
	if diff := cmp.Diff([]string{first, strings.Replace(first, "page=1&", "page=2&", 1)}, a.paths); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestAListWithoutEndIsAnError(t *testing.T) {
	a := &answers{}
	for range 10 {
		a.bodies = append(a.bodies, `{"size":1000000,"pagelen":1,"values":[{"uuid":"{a}"}]}`)
	}
	if got, err := builds.Live(t.Context(), a, app); !errors.Is(err, bitbucket.ErrUnavailable) || len(a.bodies) == 0 {
		t.Errorf("got %d pipelines, %v, want an error after a few pages", len(got), err)
	}
}

func TestStepsInTheirOrder(t *testing.T) {
	a := &answers{bodies: []string{`{"values":[
	  {"uuid":"{1}","name":"Build","run_number":1,"duration_in_seconds":61,"state":{"name":"COMPLETED","result":{"name":"SUCCESSFUL"}}},
	  {"uuid":"{2}","state":{"name":"PENDING","stage":{"name":"PAUSED"}}},
	  {"uuid":"{3}","name":"[Final Step] Report","state":{"name":"PENDING","stage":null}}]}`}}
	got, err := builds.Steps(t.Context(), a, app, "12")
	want := []builds.Step{
		{UUID: "{1}", Run: 1, Duration: 61 * time.Second, Reported: pipelines.Reported{Name: "Build", State: pipelines.Done()}},
		{UUID: "{2}", Reported: pipelines.Reported{State: pipelines.State{Name: "PENDING", Stage: "PAUSED"}}},
		{UUID: "{3}", Reported: pipelines.Reported{Name: "[Final Step] Report", State: pipelines.State{Name: "PENDING"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; steps (-want +got):\n%s", err, diff)
	}
	if want := below + "/pipelines/12/steps?pagelen=100"; a.paths[0] != want {
		t.Errorf("call %s, want %s", a.paths[0], want)
	}
}

func TestFilesOfACommitAndOddNames(t *testing.T) {
	a := &answers{bodies: []string{"pipelines: {}"}}
	data, err := builds.File(t.Context(), a, app, "abc", "ci/my file?.yml")
	if want := below + "/src/abc/ci/my%20file%3F.yml"; err != nil || string(data) != "pipelines: {}" || a.paths[0] != want {
		t.Errorf("got %q, %v from %s, want the file from %s", data, err, a.paths[0], want)
	}
}

func TestUnreadableAnswersAreErrors(t *testing.T) {
	for name, read := range map[string]func(*answers) error{
		"live":  func(a *answers) error { _, err := builds.Live(t.Context(), a, app); return err },
		"one":   func(a *answers) error { _, err := builds.One(t.Context(), a, app, "1"); return err },
		"steps": func(a *answers) error { _, err := builds.Steps(t.Context(), a, app, "1"); return err },
		"updated": func(a *answers) error {
			_, err := builds.Updated(t.Context(), a, app.Workspace)
			return err
		},
	} {
		for _, body := range []string{"", "<html>", `[1]`, `{"values":7,"uuid":7}`} {
			if err := read(&answers{bodies: []string{body}}); !errors.Is(err, bitbucket.ErrUnavailable) {
				t.Errorf("%s of %q: %v, want ErrUnavailable", name, body, err)
			}
		}
	}
}

func TestRepositoriesWithoutAUUIDAreLeftOut(t *testing.T) {
	a := &answers{bodies: []string{`{"values":[{"uuid":"{AAAAAAAA-2222-4222-8222-222222222222}","full_name":"acme/app","updated_on":"2026-10-01T10:00:00Z"},{"full_name":"acme/odd"}]}`}}
	got, err := builds.Updated(t.Context(), a, app.Workspace)
	want := []builds.Repository{{UUID: "{aaaaaaaa-2222-4222-8222-222222222222}", FullName: "acme/app", UpdatedOn: time.Date(2026, 10, 1, 10, 0, 0, 0, time.UTC)}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; repositories (-want +got):\n%s", err, diff)
	}
}

func TestOddAnswersHideNoPipeline(t *testing.T) {
	full := `{"values":[{"build_number":"8"}` + strings.Repeat(`,{"uuid":"{a}","build_number":"7"}`, 99) + `]}` // no size
	a := &answers{bodies: []string{full, `{"size":"101","pagelen":"100","values":[{"uuid":"{b}","build_number":null}]}`}}
	got, err := builds.Live(t.Context(), a, app)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 100 || got[0].Build != 7 || got[99].UUID != "{b}" {
		t.Errorf("got %d pipelines, %+v and others, want 99 of the first page and one of the second", len(got), got[:min(len(got), 1)])
	}
	a = &answers{bodies: []string{`{"values":[{"uuid":"{s}","duration_in_seconds":"2.5"},{"uuid":"{s}","duration_in_seconds":"?"}]}`}}
	steps, err := builds.Steps(t.Context(), a, app, "{p}")
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[0].Duration != 2500*time.Millisecond || steps[1].Duration != 0 {
		t.Errorf("got %+v, want a duration of 2.5s and none", steps)
	}
}
