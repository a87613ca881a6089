package emulator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
	"bitbucket-runner-scaler/bitbucket/emulator/faults"
	"bitbucket-runner-scaler/bitbucket/emulator/peaks"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/webhooks"
)

// maxBody is the maximum size of a request's body, in bytes.
const maxBody = 1 << 20

// Server is the emulator, an http.Handler. It starts no goroutines, except one that delivers
// to webhooks once there are any. Everything that becomes due is applied at the next request.
type Server struct {
	options Options
	clock   clock.Clock
	mux     *http.ServeMux
	closed  context.Context //nolint:containedctx // the server's life; its end ends the waits of requests
	close   context.CancelFunc

	mu         sync.Mutex
	workspaces []*workspace
	runners    map[string]*runner // by UUID
	clients    map[string]*runner // by OAuth client id
	sessions   map[string]*runner // by the token of a runner's process
	late       []lateWrite        // in order of time
	queue      []*pipelines.Step  // steps that wait for a runner, oldest first
	pipelines  *pipelines.Engine
	begun      time.Time
	site       resource.Site // for the payloads of webhooks
	webhooks   *webhooks.Sender
	tokens     map[string]token // of OAuth consumers
	spent      map[string][]time.Time
	rules      faults.Rules
	deliveries faults.Deliveries
	past       faults.Memory[answer]
	counters   Counters
	lives      []peaks.Life // of processes whose runner was deleted or got a new process
}

// New returns an emulator. It does not validate the options.
func New(options Options) *Server {
	options = options.withDefaults()
	s := &Server{
		options: options, clock: options.Clock, mux: http.NewServeMux(),
		runners: map[string]*runner{}, clients: map[string]*runner{}, sessions: map[string]*runner{},
		tokens: map[string]token{}, spent: map[string][]time.Time{},
		counters: Counters{
			Calls: map[string]int{}, StepsLost: map[string]int{},
			PeakOnline: map[string]int{}, PeakRegistered: map[string]int{},
		},
	}
	s.closed, s.close = context.WithCancel(context.Background())
	s.begun = s.clock.Now()
	s.pipelines = pipelines.NewEngine(host{s}, host{s}, newUUID, pipelines.Limits{ParseLag: options.ParseLag, Open: maxOpenSteps, Keep: options.KeepSteps})
	s.webhooks = webhooks.New(newUUID, s.clock, options.WebhooksAnywhere)
	for _, w := range options.Workspaces {
		s.workspaces = append(s.workspaces, newWorkspace(w, s.begun))
	}
	s.routes()
	return s
}

// Close ends the requests that a fault delays, and the deliveries to webhooks.
func (s *Server) Close() {
	s.close()
	s.webhooks.Close()
}

// call is one request to the emulator.
type call struct {
	*http.Request
	body []byte
	now  time.Time
	// base is the beginning of links, without a slash at its end.
	base string
	// fault is the rule that fired. It is zero if none did.
	fault faults.Fault
	// credential is the caller. It is zero if the route requires none.
	credential access.Credential
	// runner is the runner whose process calls, on the agents' routes.
	runner *runner
}

// site returns the address for links in the answer.
func (c *call) site() resource.Site { return resource.Site(c.base) }

// handler handles a call. It holds the server's lock.
type handler func(*call) answer

// routes registers Bitbucket's routes that the emulator supports.
func (s *Server) routes() {
	for _, root := range []string{"/2.0", "/internal"} {
		for _, scope := range []string{"/workspaces/{workspace}", "/repositories/{workspace}/{repo_slug}"} {
			runners := root + scope + "/pipelines-config/runners"
			s.api("GET "+runners, access.Runner, s.listRunners)
			s.api("POST "+runners, access.RunnerWrite, s.createRunner)
			s.api("GET "+runners+"/{uuid}", access.Runner, s.getRunner)
			s.api("PUT "+runners+"/{uuid}", access.RunnerWrite, s.updateRunner)
			s.api("DELETE "+runners+"/{uuid}", access.RunnerWrite, s.deleteRunner)
			if root == "/internal" {
				// Whether the public API can change a runner's state is not known.
				s.api("PUT "+runners+"/{uuid}/state", access.RunnerWrite, s.setRunnerState)
			}
		}
		s.pipelineRoutes(root)
	}
	s.api("GET /2.0/user", access.User, s.getUser)
	s.api("GET /2.0/workspaces/{workspace}", access.Account, s.getWorkspace)
	s.api("GET /2.0/repositories/{workspace}/{repo_slug}", access.Repository, s.getRepository)
	s.api("GET /2.0/repositories/{workspace}", access.Repository, s.listRepositories)
	s.api("GET /2.0/repositories/{workspace}/{repo_slug}/src/{commit}/{path...}", access.Repository, s.getSource)
	s.hookRoutes()

	s.open("POST /site/oauth2/access_token", s.consumerToken, true)
	s.open("POST "+runnerTokenPath, s.runnerToken, false)
	s.agentRoutes()
	s.controlRoutes()
}

// api registers a route of Bitbucket's API with counters, faults, authentication and rate
// limits.
func (s *Server) api(pattern, scope string, serve handler) {
	s.open(pattern, func(c *call) answer {
		if refused, ok := s.authenticate(c); !ok {
			return refused
		}
		limit, ok := s.spend(c)
		if ok {
			if c.credential.Lacks(scope) {
				limit = missingScope(scope, c.credential)
			} else {
				limit = serve(c)
			}
		}
		s.stale(c, &limit)
		partial(c, &limit)
		s.limitHeaders(c, &limit)
		scopeHeaders(c, scope, &limit)
		return limit
	}, true)
}

// open registers a route with faults, but without authentication.
func (s *Server) open(pattern string, serve handler, counted bool) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		body, a, ok := readBody(w, r)
		if !ok {
			s.write(w, a, faults.Fault{})
			return
		}
		c := &call{Request: r, body: body, base: s.base(r)}
		c.fault = s.arrive(c, pattern, counted)
		if !s.wait(r.Context(), c.fault.Latency) {
			panic(http.ErrAbortHandler) // the caller disconnected, or the server is closed
		}
		if c.fault.Status != 0 && !c.fault.DropAfterWrite {
			s.write(w, faultAnswer(c.fault.Status), c.fault)
			return
		}
		a = s.locked(c, serve)
		if c.fault.DropAfterWrite {
			if c.fault.Status == 0 {
				panic(http.ErrAbortHandler) // net/http closes the connection without logging
			}
			a = faultAnswer(c.fault.Status)
		}
		s.write(w, a, c.fault)
	})
}

// control registers a route of the emulator itself, without faults and counters.
func (s *Server) control(pattern string, serve handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		body, a, ok := readBody(w, r)
		if ok {
			a = s.locked(&call{Request: r, body: body, base: s.base(r)}, serve)
		}
		s.write(w, a, faults.Fault{})
	})
}

// arrive counts the call and returns the fault that applies to it.
func (s *Server) arrive(c *call, pattern string, counted bool) faults.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.rules.Take(c.Request)
	if counted {
		s.counters.Calls[pattern]++
	}
	if f.Status == http.StatusTooManyRequests {
		s.counters.TooManyRequests++
	}
	return f
}

func (s *Server) locked(c *call, serve handler) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.clock.Now()
	s.advance(c.now)
	return serve(c)
}

// wait returns false if the caller disconnects or the server is closed.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := s.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	case <-s.closed.Done():
		return false
	}
}

// ServeHTTP serves Bitbucket's routes and the emulator's controls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path := r.URL.Path; len(path) > 1 && strings.HasSuffix(path, "/") {
		u := *r.URL
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
		r = r.WithContext(r.Context())
		r.URL = &u
	}
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	// The router's own refusals are plain text, but Bitbucket's are JSON.
	refusal := statusOnly{header: http.Header{}, status: http.StatusNotFound}
	h.ServeHTTP(&refusal, r)
	s.write(w, failure(refusal.status, http.StatusText(refusal.status)+": "+r.Method+" "+r.URL.Path), faults.Fault{})
}

// statusOnly records the status that a handler writes.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) WriteHeader(status int)      { w.status = status }
func (w *statusOnly) Write(p []byte) (int, error) { return len(p), nil }

// base returns the address at which the caller reaches the emulator.
func (s *Server) base(r *http.Request) string {
	if s.options.PublicURL != "" {
		return strings.TrimRight(s.options.PublicURL, "/")
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func readBody(w http.ResponseWriter, r *http.Request) (body []byte, refusal answer, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, failure(http.StatusRequestEntityTooLarge, "The request body is too large."), false
	case err != nil:
		return nil, failure(http.StatusBadRequest, "The request body could not be read."), false
	}
	return body, answer{}, true
}
