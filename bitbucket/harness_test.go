package bitbucket

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	workspaceUUID  = "{11111111-1111-4111-8111-111111111111}"
	repositoryUUID = "{22222222-2222-4222-8222-222222222222}"
	runnerUUID     = "{b6d8aaaa-0000-4000-8000-000000000001}"
	runnerPath     = "/2.0/workspaces/acme/pipelines-config/runners/%7Bb6d8aaaa-0000-4000-8000-000000000001%7D"
	statePath      = "/internal/workspaces/acme/pipelines-config/runners/%7Bb6d8aaaa-0000-4000-8000-000000000001%7D/state"
	listPath       = "/2.0/workspaces/acme/pipelines-config/runners"
)

var (
	acme      = Scope{Workspace: "acme"}
	tokenOnly = Credentials{AccessToken: "access-token-value"}
)

// seenRequest is a request as the server saw it.
type seenRequest struct {
	Method, Path, Query, Authorization, Body string
}

// recorder is a server that records every request.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	requests []seenRequest
}

// serve answers with the handler. number is the number of the request, from 1.
func serve(t *testing.T, handler func(w http.ResponseWriter, r *http.Request, number int)) *recorder {
	t.Helper()
	rec := &recorder{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		rec.mu.Lock()
		rec.requests = append(rec.requests, seenRequest{
			r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Authorization"), string(body),
		})
		number := len(rec.requests)
		rec.mu.Unlock()
		handler(w, r, number)
	}))
	t.Cleanup(rec.Close)
	return rec
}

func (r *recorder) seen() []seenRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seenRequest(nil), r.requests...)
}

// client returns a client of the server with short waits between retries.
func (r *recorder) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		BaseURL: r.URL, OAuthURL: r.URL + "/token", Credentials: tokenOnly,
		Timeout: 20 * time.Second, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatalf("NewClient: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// answer writes a body with a status.
func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func apiError(message, detail string) string {
	body, err := json.Marshal(map[string]any{"type": "error", "error": map[string]any{"message": message, "detail": detail}})
	if err != nil {
		panic(err)
	}
	return string(body)
}

func runnerJSON(uuid string) string {
	return fmt.Sprintf(`{"uuid":%q,"name":"r","labels":["self.hosted","linux"],"state":{"status":"ONLINE"},
		"oauth_client":{"id":"id","secret":"runner-secret-value","token_endpoint":"https://auth.example.com/oauth/token","audience":"api"}}`, uuid)
}

// hangUp closes the connection without an answer.
func hangUp(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Errorf("hijack: %v", err)
		return
	}
	_ = conn.Close()
}

// everyCall returns all calls by name.
func everyCall(c *Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"list":    func(ctx context.Context) error { _, err := c.ListRunners(ctx, acme); return err },
		"get":     func(ctx context.Context) error { _, _, err := c.GetRunner(ctx, acme, runnerUUID); return err },
		"create":  func(ctx context.Context) error { _, err := c.CreateRunner(ctx, acme, NewRunner{Name: "r"}); return err },
		"disable": func(ctx context.Context) error { return c.DisableRunner(ctx, acme, runnerUUID) },
		"delete":  func(ctx context.Context) error { return c.DeleteRunner(ctx, acme, runnerUUID) },
		"resolve": func(ctx context.Context) error { _, err := c.ResolveScope(ctx, acme); return err },
		"read": func(ctx context.Context) error {
			_, err := c.Get(ctx, ClassQueue, "/2.0/repositories", "/2.0/repositories", nil)
			return err
		},
	}
}
