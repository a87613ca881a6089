package bitbucket

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testclock "k8s.io/utils/clock/testing"
)

func TestCreateRunnerSendsNameAndLabelsAndReturnsTheSecret(t *testing.T) {
	for name, status := range map[string]int{"200": http.StatusOK, "201": http.StatusCreated} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, status, runnerJSON(runnerUUID)) })
			got, err := rec.client(t, nil).CreateRunner(t.Context(),
				Scope{Workspace: workspaceUUID, Repository: "app"}, NewRunner{Name: "r", Labels: []string{"self.hosted", "linux"}})
			if err != nil {
				t.Fatal(err)
			}
			want := Runner{
				UUID: runnerUUID, Name: "r", Labels: []string{"self.hosted", "linux"}, State: RunnerState{Status: StatusOnline},
				OAuthClient: &OAuthClient{
					ID: "id", Secret: "runner-secret-value",
					TokenEndpoint: "https://auth.example.com/oauth/token", Audience: "api",
				},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			wantSeen := []seenRequest{{
				Method: "POST",
				Path:   "/2.0/repositories/%7B11111111-1111-4111-8111-111111111111%7D/app/pipelines-config/runners",
				Body:   `{"name":"r","labels":["self.hosted","linux"]}`, Authorization: "Bearer access-token-value",
			}}
			if diff := cmp.Diff(wantSeen, rec.seen()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGetRunnerDecodesRealAnswers(t *testing.T) {
	stamp := time.Date(2024, 11, 16, 9, 55, 35, 926932702, time.UTC)
	date := time.Date(2024, 11, 16, 10, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		body string
		want Runner
	}{
		"a real answer": {
			`{"uuid":"{u}","name":"test","labels":["linux"],"state":{"status":"UNREGISTERED","updated_on":"2024-11-16T09:55:35.926932702Z",
			"cordoned":false},"created_on":"2024-11-16T09:55:35.926932702Z","oauth_client":{"id":"i","token_endpoint":"t","audience":"a"}}`,
			Runner{
				UUID: "{u}", Name: "test", Labels: []string{"linux"}, CreatedOn: stamp,
				State:       RunnerState{Status: StatusUnregistered, UpdatedOn: stamp},
				OAuthClient: &OAuthClient{ID: "i", TokenEndpoint: "t", Audience: "a"},
			},
		},
		"busy while disabled, with unknown fields": {
			`{"uuid":"{u}","extra":{"a":[1]},"state":{"status":"DISABLED","version":{"version":"6.0.7","current":"true"},
			"cordoned":true,"step":{"type":"PIPELINE_STEP","uuid":"{s}","more":1}}}`,
			Runner{UUID: "{u}", State: RunnerState{
				Status: StatusDisabled, Version: "6.0.7", Cordoned: true, Step: &Step{"PIPELINE_STEP", "{s}"},
			}},
		},
		"null step, bare version, unknown status": {
			`{"uuid":"{u}","labels":null,"state":{"status":"NAPPING","version":"6","step":null,"updated_on":null}}`,
			Runner{UUID: "{u}", State: RunnerState{Status: "NAPPING", Version: "6"}},
		},
		"no state": {`{"uuid":"{u}"}`, Runner{UUID: "{u}"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.Header().Set("Date", date.Format(http.TimeFormat))
				answer(w, http.StatusOK, tc.body)
			})
			got, gotDate, err := rec.client(t, nil).GetRunner(t.Context(), acme, runnerUUID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if !gotDate.Equal(date) {
				t.Errorf("server date %s, want %s", gotDate, date)
			}
			if path := rec.seen()[0].Path; path != runnerPath {
				t.Errorf("path %s, want %s", path, runnerPath)
			}
		})
	}
}

func TestGetRunnerRefusesAnUnreadableTime(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		answer(w, http.StatusOK, `{"uuid":"{u}","created_on":"yesterday"}`)
	})
	if _, _, err := rec.client(t, nil).GetRunner(t.Context(), acme, runnerUUID); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestDeleteRunnerSucceedsIfTheRunnerDoesNotExist(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		want   error
	}{
		"deleted":   {http.StatusNoContent, nil},
		"missing":   {http.StatusNotFound, nil},
		"forbidden": {http.StatusForbidden, ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(tc.status) })
			if err := rec.client(t, nil).DeleteRunner(t.Context(), acme, runnerUUID); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if seen := rec.seen(); len(seen) != 1 || seen[0].Method != "DELETE" || seen[0].Path != runnerPath {
				t.Errorf("requests %v", seen)
			}
		})
	}
}

func TestCallsRefuseNamesThatAddressSomethingElse(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusNoContent) })
	c := rec.client(t, nil)
	for name, call := range map[string]func() error{
		"no runner":          func() error { return c.DeleteRunner(t.Context(), acme, "") },
		"path in runner":     func() error { return c.DeleteRunner(t.Context(), acme, "a/../b") },
		"no workspace":       func() error { return c.DeleteRunner(t.Context(), Scope{}, runnerUUID) },
		"dots for workspace": func() error { return c.DeleteRunner(t.Context(), Scope{Workspace: ".."}, runnerUUID) },
		"path in repository": func() error { _, err := c.ListRunners(t.Context(), Scope{"acme", "a/b"}); return err },
		"read elsewhere":     func() error { _, err := c.Get(t.Context(), ClassQueue, "x", "/evil", nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			if err := call(); err == nil {
				t.Error("no error")
			}
		})
	}
	if seen := rec.seen(); len(seen) != 0 {
		t.Errorf("requests were sent: %v", seen)
	}
}

func TestDisableAndEnableUseTheStateRoute(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, http.StatusOK, `{}`) })
	c := rec.client(t, nil)
	if err := c.DisableRunner(t.Context(), acme, runnerUUID); err != nil {
		t.Error(err)
	}
	if err := c.EnableRunner(t.Context(), acme, runnerUUID); err != nil {
		t.Error(err)
	}
	bearer := "Bearer access-token-value"
	want := []seenRequest{
		{"PUT", statePath, "", bearer, `{"status":"DISABLED"}`},
		{"PUT", statePath, "", bearer, `{"status":"ENABLED"}`},
	}
	if diff := cmp.Diff(want, rec.seen()); diff != "" {
		t.Error(diff)
	}
	if !c.DisableSupportedIn(acme) {
		t.Error("got false, want true")
	}
}

func TestDisableDistinguishesAMissingRouteFromAMissingRunner(t *testing.T) {
	for name, tc := range map[string]struct {
		put, get      int
		want, wantNot error
		supported     bool
	}{
		"route missing":      {404, 200, ErrDisableUnsupported, ErrNotFound, false},
		"runner missing":     {404, 404, ErrNotFound, ErrDisableUnsupported, true},
		"method not allowed": {405, 200, ErrDisableUnsupported, ErrNotFound, false},
		"runner unreadable":  {404, 503, ErrUnavailable, ErrDisableUnsupported, true},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
				if r.Method == http.MethodPut {
					answer(w, tc.put, apiError("no", ""))
					return
				}
				answer(w, tc.get, runnerJSON(runnerUUID))
			})
			clk := testclock.NewFakePassiveClock(time.Now())
			c := rec.client(t, func(cfg *Config) { cfg.Clock = clk })
			err := c.DisableRunner(t.Context(), acme, runnerUUID)
			if !errors.Is(err, tc.want) || errors.Is(err, tc.wantNot) {
				t.Errorf("got %v, want %v and not %v", err, tc.want, tc.wantNot)
			}
			if got := c.DisableSupportedIn(acme); got != tc.supported {
				t.Errorf("supported %v, want %v", got, tc.supported)
			}
			for _, other := range []Scope{{"acme", "app"}, {"other", ""}} {
				if !c.DisableSupportedIn(other) {
					t.Errorf("the refusal applies to %s too", other)
				}
			}
			before := len(rec.seen())
			_ = c.EnableRunner(t.Context(), acme, runnerUUID)
			if asked := len(rec.seen()) > before; asked != tc.supported {
				t.Errorf("called again %v, want %v", asked, tc.supported)
			}
			clk.SetTime(clk.Now().Add(refusalMemory))
			if !c.DisableSupportedIn(acme) {
				t.Error("the refusal is remembered for ever")
			}
		})
	}
}

func TestResolveScopeMakesCallsOnlyForSlugs(t *testing.T) {
	both := Scope{workspaceUUID, repositoryUUID}
	for name, tc := range map[string]struct {
		scope, want Scope
		bare        bool // the repository's answer lacks its workspace
		paths       []string
	}{
		"uuids":                       {scope: both, want: both},
		"upper case uuid":             {scope: Scope{Workspace: "{ABCDEFAB-1111-4111-8111-111111111111}"}, want: Scope{Workspace: "{abcdefab-1111-4111-8111-111111111111}"}},
		"workspace slug":              {scope: acme, want: Scope{Workspace: workspaceUUID}, paths: []string{"/2.0/workspaces/acme"}},
		"two slugs":                   {scope: Scope{"acme", "app"}, want: both, paths: []string{"/2.0/repositories/acme/app"}},
		"two slugs, no workspace":     {scope: Scope{"acme", "app"}, want: both, bare: true, paths: []string{"/2.0/repositories/acme/app", "/2.0/workspaces/acme"}},
		"workspace uuid":              {scope: Scope{workspaceUUID, "app"}, want: both, paths: []string{"/2.0/repositories/%7B11111111-1111-4111-8111-111111111111%7D/app"}},
		"workspace slug, repo's uuid": {scope: Scope{"acme", repositoryUUID}, want: both, paths: []string{"/2.0/workspaces/acme"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
				switch {
				case r.URL.Path == "/2.0/workspaces/acme":
					answer(w, http.StatusOK, `{"uuid":"`+workspaceUUID+`","slug":"acme"}`)
				case tc.bare:
					answer(w, http.StatusOK, `{"uuid":"`+repositoryUUID+`"}`)
				default:
					answer(w, http.StatusOK, `{"uuid":"`+repositoryUUID+`","workspace":{"uuid":"`+workspaceUUID+`"}}`)
				}
			})
			got, err := rec.client(t, nil).ResolveScope(t.Context(), tc.scope)
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			var paths []string
			for _, r := range rec.seen() {
				paths = append(paths, r.Path)
			}
			if diff := cmp.Diff(tc.paths, paths); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestObserveReceivesEveryTryWithItsRouteTemplate(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, number int) {
		if number == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		answer(w, http.StatusOK, runnerJSON(runnerUUID))
	})
	type observation struct {
		Method, Route string
		Status        int
	}
	var got []observation
	c := rec.client(t, func(cfg *Config) {
		cfg.Observe = func(method, route string, status int, _ time.Duration) {
			got = append(got, observation{method, route, status})
		}
	})
	if _, _, err := c.GetRunner(t.Context(), acme, runnerUUID); err != nil {
		t.Fatal(err)
	}
	route := "/2.0/workspaces/{workspace}/pipelines-config/runners/{runner_uuid}"
	if diff := cmp.Diff([]observation{{"GET", route, 502}, {"GET", route, 200}}, got); diff != "" {
		t.Error(diff)
	}
	if used := c.Budget().Used(); used != 2 {
		t.Errorf("budget counted %d tries, want 2", used)
	}
}
