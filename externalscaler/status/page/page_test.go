package page_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/status/history"
	"bitbucket-runner-scaler/externalscaler/status/page"
	"bitbucket-runner-scaler/externalscaler/status/view"
)

// shown is a web.Viewer of a made-up picture.
type shown struct {
	picture view.Picture
	standby bool
	// decided counts the questions for decisions: one for each group that is rendered.
	decided atomic.Int32
}

func (s *shown) Take() *view.Picture { return &s.picture }

func (s *shown) Decisions(key fleet.GroupKey) []api.Decision {
	s.decided.Add(1)
	return []api.Decision{{Group: key.String(), Time: now, Effective: 3, Reason: "ScaleUp", Note: "<b>3</b> busy"}}
}

func (s *shown) Leads() (bool, string) { return !s.standby, "scaler-1" }

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func get(t testing.TB, s *shown, path string) (*http.Response, string) {
	t.Helper()
	mux := http.NewServeMux()
	page.Register(mux, page.Config{Viewer: s, History: history.New(clock.RealClock{}), Changed: func() <-chan struct{} { return nil }, Now: func() time.Time { return now }})
	recorder := httptest.NewRecorder()
	mux.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	resp := recorder.Result()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'&`

func TestWhatComesFromElsewhereIsText(t *testing.T) {
	since := now.Add(-time.Minute)
	s := &shown{picture: view.Picture{
		Installation: api.Installation{Version: evil, Owner: evil, Problems: []api.Problem{{Severity: "error", Kind: "x", Group: evil, Message: evil, Remedy: evil}}, Repositories: []api.Repository{{Name: evil, Error: evil}}},
		Groups:       []api.Group{{Namespace: "ns", Name: evil, Error: evil, Scope: evil, Labels: []string{evil}, Runners: map[string]int{"idle": 1}, Decision: &api.Decision{Note: evil, Reason: evil}}},
		Runners:      []api.Runner{{Group: "ns/" + evil, Name: evil, Node: evil, Waits: evil, Step: &api.Step{UUID: evil, URL: "javascript:alert(1)", Name: evil}}},
		Steps:        []api.Step{{UUID: "1", Name: evil, Repository: evil, State: api.StepUnserved, Since: &since, URL: "javascript:alert(1)", Why: []api.Reason{{Message: evil}}}},
	}}
	_, body := get(t, s, "/")
	for _, bad := range []string{"<script>alert", "<img", "href=\"javascript:", "<b>3</b>"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if n := strings.Count(body, "&lt;script&gt;alert(1)&lt;/script&gt;"); n < 15 {
		t.Errorf("%d texts are shown, want at least 15", n)
	}
}

func TestThePageAllowsNothingFromElsewhere(t *testing.T) {
	resp, body := get(t, &shown{}, "/")
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy is %q, want %q in it", policy, want)
		}
	}
	for _, bad := range []string{"unsafe", "http:", "https:", "*"} {
		if strings.Contains(policy, bad) {
			t.Errorf("the policy is %q, which has %q", policy, bad)
		}
	}
	for _, bad := range []string{" style=", " onclick=", "src=\"http", "href=\"//", "<form"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for path, kind := range map[string]string{"/style.css": "text/css", "/script.js": "text/javascript"} {
		if resp, _ := get(t, &shown{}, path); resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
	}
}

func TestAStandbyNamesTheLeader(t *testing.T) {
	_, body := get(t, &shown{standby: true}, "/")
	if !strings.Contains(body, "This replica is a standby") || !strings.Contains(body, "<code>scaler-1</code>") || strings.Contains(body, "Runner groups") {
		t.Error(body)
	}
}

func TestGroupsWithProblemsComeFirst(t *testing.T) {
	group := func(name string, severity api.Severity) api.Group {
		g := api.Group{Namespace: "ns", Name: name, Runners: map[string]int{}}
		if severity != "" {
			g.Problems = []api.Problem{{Severity: severity, Kind: "x"}}
		}
		return g
	}
	_, body := get(t, &shown{picture: view.Picture{Groups: []api.Group{group("a", ""), group("b", api.SeverityWarning), group("c", api.SeverityError)}}}, "/")
	if c, b, a := strings.Index(body, "<h3>ns/c"), strings.Index(body, "<h3>ns/b"), strings.Index(body, "<h3>ns/a"); c < 0 || c > b || b > a {
		t.Errorf("c at %d, b at %d, a at %d", c, b, a)
	}
}

// Everybody sees the same, so many readers take no more of the scaler than one.
func TestReadersOfThePageShareWhatIsRendered(t *testing.T) {
	s := &shown{picture: view.Picture{Groups: []api.Group{{Namespace: "ns", Name: "a", Runners: map[string]int{}}}}}
	mux := http.NewServeMux()
	page.Register(mux, page.Config{Viewer: s, History: history.New(clock.RealClock{}), Changed: func() <-chan struct{} { return nil }, Now: func() time.Time { return now }})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live", http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "event: update\n" {
				t.Errorf("%q, %v", line, err)
			}
		})
	}
	readers.Wait()
	if n := s.decided.Load(); n > 2 {
		t.Errorf("the page was rendered %d times for 50 readers, want once", n)
	}
}

// BenchmarkPage renders 100 groups with 1,000 runners.
func BenchmarkPage(b *testing.B) {
	s := &shown{}
	for g := range 100 {
		name := fmt.Sprintf("group-%d", g)
		s.picture.Groups = append(s.picture.Groups, api.Group{Namespace: "ns", Name: name, Runners: map[string]int{"busy": 10}, Labels: []string{"self.hosted", "linux", name}, Decision: &api.Decision{Note: "10 busy"}})
		for r := range 10 {
			s.picture.Runners = append(s.picture.Runners, api.Runner{
				Group: "ns/" + name, Name: fmt.Sprintf("%s-%d", name, r), State: "busy", Since: &now,
				Step: &api.Step{UUID: fmt.Sprintf("{%d-%d}", g, r), Name: "Build", Repository: "app", Build: 1, URL: "https://bitbucket.org/a/b"},
			})
		}
	}
	for b.Loop() {
		if _, body := get(b, s, "/"); !strings.Contains(body, "group-99-9") {
			b.Fatal("a runner is missing")
		}
	}
}
