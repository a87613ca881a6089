package emulator

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

func TestRunnerRoutesAnswerAsBitbucketDoes(t *testing.T) {
	t.Parallel()
	for _, root := range []string{"/2.0", "/internal"} {
		for _, scope := range []string{
			"/workspaces/acme", "/workspaces/" + url.PathEscape(WorkspaceUUID), "/repositories/acme/app",
			"/repositories/" + url.PathEscape(WorkspaceUUID) + "/" + url.PathEscape(WebRepositoryUUID),
		} {
			t.Run(root+scope, func(t *testing.T) {
				t.Parallel()
				b := start(t, Options{})
				path := root + scope + "/pipelines-config/runners"
				made := b.register(path+"/", "test", "my.group")
				if made.OAuthClient.Secret == "" || made.State.Status != "UNREGISTERED" || made.OAuthClient.TokenEndpoint != b.url+"/oauth/token" {
					t.Errorf("registered %+v, want a secret, UNREGISTERED and a token endpoint at %s", made, b.url)
				}
				one := path + "/" + url.PathEscape(made.UUID)
				want := made
				want.OAuthClient.Secret = ""
				if got := b.list(path).Values; !cmp.Equal(got, []runnerBody{want}) {
					t.Errorf("list: %s", cmp.Diff([]runnerBody{want}, got))
				}
				if got := decode[runnerBody](t, b.call(200, "GET", one+"/", "").body); !cmp.Equal(got, want) {
					t.Errorf("get: %s", cmp.Diff(want, got))
				}
				b.call(200, "PUT", one, `{"name":"other"}`)
				if root == "/internal" {
					got := decode[runnerBody](t, b.call(200, "PUT", one+"/state", `{"status":"DISABLED"}`).body)
					if got.State.Status != "DISABLED" {
						t.Errorf("disabled: status %s", got.State.Status)
					}
					b.call(400, "PUT", one+"/state", `{"status":"ONLINE"}`)
				} else {
					b.call(404, "PUT", one+"/state", `{"status":"DISABLED"}`)
				}
				if r := b.call(204, "DELETE", one, ""); r.body != "" {
					t.Errorf("delete: body %q, want none", r.body)
				}
				for _, method := range []string{"GET", "PUT", "DELETE"} {
					r := b.call(404, method, one, `{}`)
					if decode[errorBody](t, r.body).Type != "error" {
						t.Errorf("%s of a deleted runner: %s", method, r.body)
					}
				}
				b.call(405, "PATCH", path, "")
			})
		}
	}
}

func TestUnknownNamesAreNotFound(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	for _, path := range []string{
		"/2.0/workspaces/other", "/2.0/workspaces/other/pipelines-config/runners", "/2.0/repositories/acme/other",
		"/2.0/repositories/acme/other/pipelines-config/runners", "/2.0/repositories/acme/other/pipelines",
		"/2.0/repositories/acme/app/pipelines/%7Bx%7D/steps", "/2.0/repositories/acme/app/src/abc/bitbucket-pipelines.yml", "/2.0/nothing",
	} {
		if r := b.call(404, "GET", path, ""); decode[errorBody](t, r.body).Error.Message == "" {
			t.Errorf("%s: %s, want a message", path, r.body)
		}
	}
}

func TestNamesResolveToUUIDs(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	if got := decode[resource.Workspace](t, b.call(200, "GET", "/2.0/workspaces/acme", "").body); got.UUID != WorkspaceUUID {
		t.Errorf("workspace %+v", got)
	}
	got := decode[resource.Repository](t, b.call(200, "GET", "/2.0/repositories/acme/"+url.PathEscape(AppRepositoryUUID), "").body)
	if got.UUID != AppRepositoryUUID || got.FullName != "acme/app" {
		t.Errorf("repository %+v", got)
	}
}

func TestInvalidRegistrationsAreRefused(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	const uuid = "{aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa}"
	b.call(200, "POST", workspaceRunners, `{"uuid":"`+uuid+`","name":"r","labels":["self.hosted","linux"]}`)
	for name, c := range map[string]struct {
		status int
		body   string
		field  string
	}{
		"same uuid":      {409, `{"uuid":"` + uuid + `","name":"r","labels":["self.hosted","linux"]}`, ""},
		"no json":        {400, `nonsense`, ""},
		"uuid form":      {400, `{"uuid":"x","name":"r","labels":["self.hosted","linux"]}`, "uuid"},
		"no name":        {400, `{"labels":["self.hosted","linux"]}`, "name"},
		"long name":      {400, `{"name":"` + strings.Repeat("n", 51) + `","labels":["self.hosted","linux"]}`, "name"},
		"no labels":      {400, `{"name":"r"}`, "labels"},
		"upper case":     {400, `{"name":"r","labels":["Mine"]}`, "labels"},
		"dash":           {400, `{"name":"r","labels":["my-group"]}`, "labels"},
		"eleven customs": {400, `{"name":"r","labels":["self.hosted","linux","a","b","c","d","e","f","g","h","i","j","k"]}`, "labels"},
		"too large":      {413, strings.Repeat(" ", maxBody+1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.call(c.status, "POST", workspaceRunners, c.body)
			got := decode[errorBody](t, r.body)
			if c.field != "" && len(got.Error.Fields[c.field]) == 0 {
				t.Errorf("got %s, want field %s", r.body, c.field)
			}
		})
	}
}

func TestScopeHasAtMostAHundredRunners(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	for i := range 99 {
		b.register(workspaceRunners, fmt.Sprint("r", i))
	}
	b.faults(FaultRule{Method: "POST", ApplyAfter: "10s", Count: 1})
	b.register(workspaceRunners, "late")
	r := b.call(400, "POST", workspaceRunners, `{"name":"r","labels":["self.hosted","linux"]}`)
	if !strings.Contains(r.body, "maximum of 100 runners") {
		t.Errorf("refusal %s", r.body)
	}
	b.register(repositoryRunners, "another scope")
	b.clock.Step(11 * time.Second)
	if got := b.list(workspaceRunners).Size; got != 100 {
		t.Errorf("size %d, want 100", got)
	}
	want := map[string]int{"acme": 100, "acme/app": 1}
	if got := b.server.State().Counters.PeakRegistered; !cmp.Equal(got, want) {
		t.Errorf("peak: %s", cmp.Diff(want, got))
	}
}

func TestListsComeInPages(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	for i := range 25 {
		b.register(workspaceRunners, fmt.Sprint("r", i))
	}
	var names []string
	next, lengths := workspaceRunners+"/", []int{}
	for next != "" {
		p := b.list(next)
		for _, r := range p.Values {
			names = append(names, r.Name)
		}
		lengths = append(lengths, p.PageLen)
		next = p.Next
		if p.Size != 25 || len(p.Values) != p.PageLen {
			t.Errorf("page %d: size %d, pagelen %d, %d values", p.Page, p.Size, p.PageLen, len(p.Values))
		}
	}
	if len(names) != 25 || !cmp.Equal(lengths, []int{10, 10, 5}) {
		t.Errorf("got %d names on pages of %v", len(names), lengths)
	}
	if p := b.list(workspaceRunners + "?pagelen=100"); len(p.Values) != 25 || p.Next != "" {
		t.Errorf("one page: %d values, next %q", len(p.Values), p.Next)
	}
	for _, query := range []string{"?pagelen=101", "?pagelen=0", "?page=0", "?page=x"} {
		b.call(400, "GET", workspaceRunners+query, "")
	}
	if r := b.call(200, "GET", workspaceRunners+"?page=9", ""); !strings.Contains(r.body, `"values":[]`) {
		t.Errorf("page beyond the end: %s", r.body)
	}
}

func TestPipelinesShowTheQueue(t *testing.T) {
	t.Parallel()
	b := start(t, Options{StepStages: pipelines.StagesReached})
	runner := b.online("my.group", "1.0")
	steps := b.queue(2, "linux", "my.group", "1.0")
	b.queue(1, "linux", "nobody.has.this")
	list := "/2.0/repositories/acme/app/pipelines"
	live := decode[page[pipelines.Body]](t, b.call(200, "GET", list+"?status=PENDING&status=BUILDING&pagelen=1&sort=-created_on", "").body)
	if live.Size != 1 || len(live.Values) != 1 || live.Next != "" || live.Values[0].State.Stage.Name != "RUNNING" {
		t.Fatalf("live pipelines %+v, want one running, no next", live)
	}
	p := live.Values[0]
	got := decode[page[pipelines.StepBody]](t, b.call(200, "GET", list+"/"+url.PathEscape(p.UUID)+"/steps", "").body).Values
	if len(got) != 2 || got[0].UUID != steps[0] || got[0].State.Name != "IN_PROGRESS" || got[0].StartedOn.IsZero() {
		t.Errorf("first step %+v, want running", got)
	}
	if got[1].State.Stage.Type != "pipeline_step_state_pending_pending" || !got[1].StartedOn.IsZero() {
		t.Errorf("second step %+v, want waiting", got[1])
	}
	source := b.call(200, "GET", "/2.0/repositories/acme/app/src/"+p.Target.Commit.Hash+"/bitbucket-pipelines.yml", "").body
	if !strings.Contains(source, "runs-on:\n              - \"linux\"\n              - \"my.group\"\n              - \"1.0\"\n") {
		t.Errorf("source:\n%s", source)
	}
	b.set(runner, ActionIdle, "")
	b.set(runner, ActionIdle, "")
	if ended := decode[page[pipelines.Body]](t, b.call(200, "GET", list+"?status=PASSED", "").body); ended.Size != 1 || ended.Values[0].CompletedOn.IsZero() {
		t.Errorf("successful pipelines %+v, want one", ended)
	}
	if failed := decode[page[pipelines.Body]](t, b.call(200, "GET", list+"?status=FAILED", "").body); failed.Size != 1 {
		t.Errorf("failed pipelines %+v, want the one that nobody could run", failed)
	}
}

func FuzzRegistrationBody(f *testing.F) {
	f.Add(`{"name":"r","labels":["self.hosted","linux","my.group"]}`)
	f.Add(`{"uuid":"{aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa}","name":"r","labels":["a"]}`)
	f.Add(`{"name":null,"labels":[null]}`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, body string) {
		s := New(Options{})
		defer s.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://emulator"+workspaceRunners, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", bearerAccess)
		w := &statusOnly{header: http.Header{}}
		s.ServeHTTP(w, req)
		registered := len(s.State().Runners)
		switch w.status {
		case http.StatusOK:
			if registered != 1 {
				t.Errorf("200, and %d runners", registered)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if registered != 0 {
				t.Errorf("%d, and %d runners", w.status, registered)
			}
		default:
			t.Errorf("status %d", w.status)
		}
	})
}
