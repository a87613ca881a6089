package clients

import (
	"encoding/json"
	"strings"
	"testing"

	bitbucket "github.com/ktrysmt/go-bitbucket"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// TestKtrysmt runs github.com/ktrysmt/go-bitbucket. It knows no runners, and starts and
// stops nothing. Its lists follow next links, which the list of pipelines has not.
func TestKtrysmt(t *testing.T) {
	s := newStage(t)
	client, err := bitbucket.NewAPITokenAuthWithBaseUrlStr(emulator.Email, emulator.APIToken, s.url+"/2.0")
	if err != nil {
		t.Fatal(err)
	}
	options := bitbucket.PipelinesOptions{Owner: "acme", RepoSlug: "app", Sort: "-created_on"}
	type pipeline struct {
		UUID   string `json:"uuid"`
		Number int    `json:"build_number"`
		State  struct {
			Name string `json:"name"`
		} `json:"state"`
	}
	var got answers
	for options.Page = 1; options.Page <= 2; options.Page++ {
		var list struct {
			Values []pipeline `json:"values"`
		}
		decode(t, &list)(client.Repositories.Pipelines.List(&options))
		for _, p := range list.Values {
			got.Pipelines = append(got.Pipelines, p.Number)
		}
	}
	one := bitbucket.PipelinesOptions{Owner: "acme", RepoSlug: "app", IDOrUuid: "1"}
	var first pipeline
	decode(t, &first)(client.Repositories.Pipelines.Get(&one))
	got.ByNumber = first.UUID
	one.IDOrUuid = first.UUID
	decode(t, &first)(client.Repositories.Pipelines.Get(&one))
	got.ByUUID = first.Number
	var steps struct {
		Values []pipeline `json:"values"`
	}
	decode(t, &steps)(client.Repositories.Pipelines.ListSteps(&one))
	for _, st := range steps.Values {
		got.Steps = append(got.Steps, st.UUID)
	}
	one.StepUuid = got.Steps[0]
	decode(t, &first)(client.Repositories.Pipelines.GetStep(&one))
	got.Step = first.State.Name
	if got.Log, err = client.Repositories.Pipelines.GetLog(&one); err != nil {
		t.Fatal(err)
	}
	s.check(t, got, func(want *answers) {
		want.WorkspaceRunners, want.RepositoryRunners, want.Started, want.Stopped = nil, nil, 0, ""
	})

	workspace, err := client.Workspaces.Get("acme")
	if err != nil || workspace.UUID != emulator.WorkspaceUUID {
		t.Errorf("workspace %+v, %v", workspace, err)
	}
	repository, err := client.Repositories.Repository.Get(&bitbucket.RepositoryOptions{Owner: "acme", RepoSlug: "app"})
	if err != nil || repository.Uuid != emulator.AppRepositoryUUID || repository.Mainbranch.Name != "main" || repository.Project.Key == "" {
		t.Errorf("repository %+v, %v", repository, err)
	}
	source, err := client.Repositories.Repository.GetFileContent(&bitbucket.RepositoryFilesOptions{
		Owner: "acme", RepoSlug: "app", Ref: "main", Path: "bitbucket-pipelines.yml",
	})
	if err != nil || !strings.Contains(string(source), "name: Build") {
		t.Errorf("source %s, %v", source, err)
	}
}

// decode returns a function that reads the client's untyped answer into a value.
func decode(t *testing.T, into any) func(answer any, err error) {
	t.Helper()
	return func(answer any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
}
