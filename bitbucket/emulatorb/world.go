package emulator

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Statuses of a runner on the wire.
const (
	statusUnregistered = "UNREGISTERED"
	statusOnline       = "ONLINE"
	statusOffline      = "OFFLINE"
	statusDisabled     = "DISABLED"
	statusUnhealthy    = "UNHEALTHY"
)

// workspace and repository are what there is from the start.
type workspace struct {
	uuid, slug   string
	repositories []repository
}

type repository struct{ uuid, slug string }

// runner is one registered runner.
type runner struct {
	uuid, name, scope      string
	labels                 []string
	createdOn, updatedOn   time.Time
	visibleOn              time.Time // a late write: not there before
	clientID, clientSecret string
	token                  string // of its process, once authenticated
	disabled, unhealthy    bool
	online, seen           bool
	manual                 bool // set by hand: no heartbeat is expected
	lastContact            time.Time
	step                   *step
	taken                  int // steps so far
}

// step is one step of a pipeline.
type step struct {
	StepInfo
	pipeline string
	duration time.Duration
	// learnsOn is when the runner may be told of it; told once it was.
	learnsOn time.Time
	told     bool
}

// pipeline is what one request queued.
type pipeline struct {
	uuid, commit string
	workspace    workspace
	repository   repository
	buildNumber  int
	createdOn    time.Time
	steps        []*step
}

// frame is the list of runners as it was, for lists that lag.
type frame struct {
	at      time.Time
	runners []map[string]any
	scopes  []string
}

// world is all state; guarded by Server.mu.
type world struct {
	workspaces []workspace
	runners    []*runner
	steps      []*step
	pipelines  []*pipeline
	tokens     map[string]issued
	spent      map[string]map[int64]int
	counters   Counters
	faults     []*faultState
	frames     []frame
	late       []lateWrite
	builds     int
}

type lateWrite struct {
	at    time.Time
	apply func()
}

func newWorld() *world {
	return &world{
		workspaces: []workspace{{
			uuid: "{11111111-1111-4111-8111-111111111111}", slug: "acme",
			repositories: []repository{{"{22222222-2222-4222-8222-222222222222}", "app"}, {"{33333333-3333-4333-8333-333333333333}", "web"}},
		}, {
			uuid: "{44444444-4444-4444-8444-444444444444}", slug: "globex",
			repositories: []repository{{"{55555555-5555-4555-8555-555555555555}", "api"}},
		}},
		tokens: map[string]issued{}, spent: map[string]map[int64]int{},
		counters: Counters{Calls: map[string]int{}, StepsLost: map[string]int{}, PeakOnline: map[string]int{}, PeakRegistered: map[string]int{}},
	}
}

func newUUID() string { return "{" + uuid.NewString() + "}" }

func (r *runner) status() string {
	switch {
	case r.disabled:
		return statusDisabled
	case r.unhealthy:
		return statusUnhealthy
	case r.online:
		return statusOnline
	case r.seen:
		return statusOffline
	}
	return statusUnregistered
}

// takes reports whether a step may be given to the runner's like: its labels, and
// its scope, the workspace's or the repository's own.
func (r *runner) takes(s *step, ws workspace, repo repository) bool {
	if r.scope != ws.slug && r.scope != ws.slug+"/"+repo.slug {
		return false
	}
	for _, label := range s.Labels {
		if !slices.Contains(r.labels, label) {
			return false
		}
	}
	return true
}

// advance brings the world to the present: late writes, runners gone silent,
// steps assigned or failed, and the record. Called locked.
func (s *Server) advance() {
	now := s.options.Clock.Now()
	var later []lateWrite
	for _, write := range s.late {
		if now.Before(write.at) {
			later = append(later, write)
			continue
		}
		write.apply()
	}
	s.late = later
	for _, r := range s.runners {
		if r.online && !r.manual && now.Sub(r.lastContact) > s.options.OfflineAfter {
			r.online, r.updatedOn = false, now
			s.lose(r, CauseDisconnected)
		}
	}
	for _, p := range s.pipelines {
		for _, queued := range p.steps {
			if queued.Outcome == OutcomeQueued {
				s.assign(p, queued, now)
			}
		}
	}
	s.note(now)
}

// assign gives a step to an idle online runner; with none online, it fails.
func (s *Server) assign(p *pipeline, queued *step, now time.Time) {
	online := false
	for _, r := range s.runners {
		if r.status() != statusOnline || now.Before(r.visibleOn) || !r.takes(queued, p.workspace, p.repository) {
			continue
		}
		online = true
		if r.step != nil {
			continue
		}
		r.step, r.updatedOn = queued, now
		if r.taken++; r.taken > 1 {
			s.counters.RunnersReused++
		}
		queued.Outcome, queued.RunnerUUID, queued.StartedOn = OutcomeRunning, r.uuid, now
		queued.learnsOn = now
		if s.options.AssignLag > 0 {
			queued.learnsOn = now.Add(time.Duration(rand.Int64N(int64(s.options.AssignLag)))) //nolint:gosec // a lag, not a secret
		}
		return
	}
	if !online {
		queued.Outcome, queued.Cause, queued.CompletedOn = OutcomeFailed, CauseNoRunner, now
		s.counters.StepsFailedNoRunner++
	}
}

// lose fails the step of a runner that will not finish it.
func (s *Server) lose(r *runner, cause string) {
	if r.step == nil {
		return
	}
	r.step.Outcome, r.step.Cause, r.step.CompletedOn = OutcomeFailed, cause, s.options.Clock.Now()
	r.step = nil
	s.counters.StepsLost[cause]++
}

// note keeps the peaks, the frames for lists that lag, and the memory's bounds.
func (s *Server) note(now time.Time) {
	online, registered := map[string]int{}, map[string]int{}
	for _, r := range s.runners {
		registered[r.scope]++
		if r.online {
			online[strings.Join(r.labels, ",")]++
		}
	}
	for key, n := range online {
		s.counters.PeakOnline[key] = max(s.counters.PeakOnline[key], n)
	}
	for key, n := range registered {
		s.counters.PeakRegistered[key] = max(s.counters.PeakRegistered[key], n)
	}
	s.remember(now)
	s.forget()
}

// frameEvery is how fine lists that lag are.
const frameEvery = 500 * time.Millisecond

// remember keeps the list of runners for lists that lag.
func (s *Server) remember(now time.Time) {
	if n := len(s.frames); n > 0 && now.Sub(s.frames[n-1].at) < frameEvery {
		return
	}
	f := frame{at: now}
	for _, r := range s.runners {
		if !now.Before(r.visibleOn) {
			f.runners, f.scopes = append(f.runners, s.show(r)), append(f.scopes, r.scope)
		}
	}
	s.frames = append(s.frames, f)
	for len(s.frames) > 1 && now.Sub(s.frames[0].at) > 2*time.Minute {
		s.frames = s.frames[1:]
	}
}

// forget bounds the memory: the oldest completed steps and pipelines go.
func (s *Server) forget() {
	if extra := len(s.steps) - maxCompleted; extra > 0 {
		s.steps = slices.DeleteFunc(s.steps, func(st *step) bool {
			if extra > 0 && !st.CompletedOn.IsZero() {
				extra--
				return true
			}
			return false
		})
	}
	if extra := len(s.pipelines) - maxCompleted; extra > 0 {
		s.pipelines = slices.DeleteFunc(s.pipelines, func(p *pipeline) bool {
			done := !slices.ContainsFunc(p.steps, func(st *step) bool { return st.CompletedOn.IsZero() })
			if extra > 0 && done {
				extra--
				return true
			}
			return false
		})
	}
}
