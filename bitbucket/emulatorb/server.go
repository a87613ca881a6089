package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// Options of an emulator; the zero value is ready.
type Options struct {
	// HideStep leaves state.step out of what runners show.
	HideStep bool
	// AssignLag is up to how long a step shows on a runner before the runner
	// learns of it.
	AssignLag time.Duration
	// OfflineAfter is after what silence a runner is OFFLINE. Default 90 s.
	OfflineAfter time.Duration
	// RateLimit is how many calls an hour each identity has. Default 1,000.
	RateLimit int
	// TokenLifetime is that of OAuth tokens. Default 2 h.
	TokenLifetime time.Duration
	// PublicURL is where runners reach the emulator; the request's host unless set.
	PublicURL string
	// Clock is the time; the real one unless set.
	Clock clock.WithTicker
}

// Limits of Bitbucket Cloud, and of the emulator's memory.
const (
	maxRunners   = 100
	maxLabels    = 10
	maxPageLen   = 100
	maxBody      = 1 << 20
	maxCompleted = 10000
	tick         = 100 * time.Millisecond
)

// Server is an emulator; it is an http.Handler. Close ends it.
type Server struct {
	options Options
	mux     *http.ServeMux
	cancel  context.CancelFunc
	loop    sync.WaitGroup

	mu sync.Mutex
	*world
}

// New starts an emulator.
func New(options Options) *Server {
	if options.OfflineAfter == 0 {
		options.OfflineAfter = 90 * time.Second
	}
	if options.RateLimit == 0 {
		options.RateLimit = 1000
	}
	if options.TokenLifetime == 0 {
		options.TokenLifetime = 2 * time.Hour
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{options: options, mux: http.NewServeMux(), cancel: cancel, world: newWorld()}
	s.routes()
	s.loop.Go(func() { s.run(ctx) })
	return s
}

// Close ends the emulator's own work. Requests under way are the HTTP server's.
func (s *Server) Close() {
	s.cancel()
	s.loop.Wait()
}

// NewTestServer starts an emulator on loopback that closes with the test.
func NewTestServer(tb testing.TB, options Options) (*httptest.Server, *Server) {
	tb.Helper()
	s := New(options)
	server := httptest.NewServer(s)
	tb.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		s.Close()
	})
	return server, s
}

func (s *Server) run(ctx context.Context) {
	ticker := s.options.Clock.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			s.mu.Lock()
			s.advance()
			s.mu.Unlock()
		}
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.options.Clock.Now().UTC().Format(http.TimeFormat))
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if strings.HasPrefix(r.URL.Path, "/_emulator/") || r.URL.Path == "/" || r.URL.Path == "/healthz" {
		s.mux.ServeHTTP(w, r)
		return
	}
	if r.URL.Path != "/" {
		r.URL.Path = strings.TrimSuffix(r.URL.Path, "/") // clients may add a slash
		r.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, "/")
	}
	s.withFaults(w, r)
}

const help = `bitbucket-emulator: Bitbucket Cloud's runners in memory.

  workspace acme {11111111-1111-4111-8111-111111111111}, repositories app and web
  OAuth consumer emulator-client:emulator-secret, API token dev@example.com:emulator-token,
  app password dev:emulator-app-password, access token emulator-access-token (read only: emulator-readonly-token)

  /2.0/workspaces/{workspace}/pipelines-config/runners[/{uuid}]          GET POST, GET PUT DELETE
  /2.0/repositories/{workspace}/{repo}/pipelines-config/runners[/{uuid}]
  /internal/... the same, and PUT .../runners/{uuid}/state
  /2.0/repositories/{workspace}/{repo}/pipelines[/{uuid}/steps], .../src/{commit}/bitbucket-pipelines.yml
  /site/oauth2/access_token

  POST /_emulator/steps    {"workspace":"acme","repository":"app","labels":["linux","my.group"],"duration":"30s","count":5}
  GET  /_emulator/state    POST /_emulator/faults    POST /_emulator/runners/{uuid}/online|step|idle|offline|unhealthy
`

func (s *Server) routes() {
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(help)) })
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	s.mux.HandleFunc("POST /site/oauth2/access_token", s.oauthToken)
	for _, api := range []string{"/2.0", "/internal"} {
		for _, scope := range []string{"/workspaces/{workspace}", "/repositories/{workspace}/{repo}"} {
			base := api + scope + "/pipelines-config/runners"
			s.api("GET", base, "runner", s.listRunners)
			s.api("POST", base, "runner:write", s.createRunner)
			s.api("GET", base+"/{uuid}", "runner", s.getRunner)
			s.api("PUT", base+"/{uuid}", "runner:write", s.putRunner)
			s.api("DELETE", base+"/{uuid}", "runner:write", s.deleteRunner)
			if api == "/internal" {
				s.api("PUT", base+"/{uuid}/state", "runner:write", s.putState)
			}
		}
	}
	s.api("GET", "/2.0/workspaces/{workspace}", "account", s.getWorkspace)
	s.api("GET", "/2.0/repositories/{workspace}/{repo}", "repository", s.getRepository)
	s.api("GET", "/2.0/repositories/{workspace}/{repo}/pipelines", "pipeline", s.listPipelines)
	s.api("GET", "/2.0/repositories/{workspace}/{repo}/pipelines/{uuid}/steps", "pipeline", s.listSteps)
	s.api("GET", "/2.0/repositories/{workspace}/{repo}/src/{commit}/bitbucket-pipelines.yml", "repository", s.getSource)
	s.controls()
	s.agents()
}

// api adds a route that counts its calls and asks for a permission.
func (s *Server) api(method, template, permission string, handle func(w http.ResponseWriter, r *http.Request) error) {
	s.mux.HandleFunc(method+" "+template, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.counters.Calls[method+" "+template]++
		err := s.authorize(w, r, permission)
		s.mu.Unlock()
		if err == nil {
			err = handle(w, r)
		}
		if err != nil {
			writeError(w, err)
		}
	})
}

// apiError is an answer that is an error, in Bitbucket's form.
type apiError struct {
	status  int
	message string
	detail  any
	fields  map[string][]string
	plain   bool
}

func (e *apiError) Error() string { return e.message }

func fail(status int, format string, args ...any) error {
	return &apiError{status: status, message: fmt.Sprintf(format, args...)}
}

func writeError(w http.ResponseWriter, err error) {
	e, ok := err.(*apiError) //nolint:errorlint // made here, never wrapped
	if !ok {
		e = &apiError{status: http.StatusInternalServerError, message: err.Error()}
	}
	if e.plain {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(e.status)
		_, _ = fmt.Fprintln(w, e.message)
		return
	}
	body := map[string]any{"message": e.message}
	if e.detail != nil {
		body["detail"] = e.detail
	}
	if e.fields != nil {
		body["fields"] = e.fields
	}
	writeJSON(w, e.status, map[string]any{"type": "error", "error": body})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that went away
}

// readJSON reads a body into v, strictly where the shape is our own.
func readJSON(r *http.Request, v any, strict bool) error {
	decoder := json.NewDecoder(r.Body)
	if strict {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(v); err != nil {
		return fail(http.StatusBadRequest, "Bad request: the body is not valid: %v", err)
	}
	return nil
}
