package emulator

import (
	"net/http"
	"slices"
	"time"
)

// controls are the emulator's own routes, for tests and demos.
func (s *Server) controls() {
	handle := func(pattern string, do func(w http.ResponseWriter, r *http.Request) error) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := do(w, r); err != nil {
				writeError(w, err)
			}
		})
	}
	handle("POST /_emulator/steps", s.queueSteps)
	handle("GET /_emulator/state", s.getState)
	handle("POST /_emulator/faults", s.setFaults)
	handle("POST /_emulator/runners/{uuid}/{action}", s.setRunner)
}

func (s *Server) queueSteps(w http.ResponseWriter, r *http.Request) error {
	var request StepRequest
	if err := readJSON(r, &request, true); err != nil {
		return err
	}
	if request.Count == 0 {
		request.Count = 1
	}
	duration, err := time.ParseDuration(request.Duration)
	if err != nil || duration < 0 || duration > 24*time.Hour {
		return fail(http.StatusBadRequest, "duration: %q, want a duration such as 30s, at most 24h", request.Duration)
	}
	if request.Count < 1 || request.Count > 100 {
		return fail(http.StatusBadRequest, "count: %d, want 1 to 100, as many as a pipeline has steps", request.Count)
	}
	if len(request.Labels) == 0 {
		return fail(http.StatusBadRequest, "labels: empty, want the step's runs-on")
	}
	r.SetPathValue("workspace", request.Workspace)
	r.SetPathValue("repo", request.Repository)
	if request.Repository == "" {
		return fail(http.StatusBadRequest, "repository: empty, want its slug or {uuid}")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ws, repo, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	uuids := s.queue(ws, repo, request.Labels, duration, request.Count)
	s.advance()
	writeJSON(w, http.StatusOK, map[string]any{"steps": uuids})
	return nil
}

func (s *Server) getState(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, s.State())
	return nil
}

// State is everything that there is, as GET /_emulator/state shows it.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	state := State{Runners: []RunnerInfo{}, Steps: []StepInfo{}, Counters: s.counters.clone()}
	for _, r := range s.runners {
		info := RunnerInfo{UUID: r.uuid, Name: r.name, Labels: slices.Clone(r.labels), Scope: r.scope, Status: r.status()}
		if r.step != nil {
			info.StepUUID = r.step.UUID
		}
		state.Runners = append(state.Runners, info)
	}
	for _, st := range s.steps {
		state.Steps = append(state.Steps, st.StepInfo)
	}
	return state
}

func (s *Server) setFaults(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Rules []FaultRule `json:"rules"`
	}
	if err := readJSON(r, &body, true); err != nil {
		return err
	}
	var faults []*faultState
	for i, rule := range body.Rules {
		f, err := newFault(rule)
		if err != nil {
			return fail(http.StatusBadRequest, "rules[%d]: %v", i, err)
		}
		faults = append(faults, f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults // replaced whole
	writeJSON(w, http.StatusOK, map[string]int{"rules": len(faults)})
	return nil
}

// setRunner sets a runner's state by hand; no heartbeat is expected of it then.
func (s *Server) setRunner(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Step string `json:"step"`
	}
	if r.ContentLength != 0 {
		if err := readJSON(r, &body, true); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.runners, func(known *runner) bool { return known.uuid == r.PathValue("uuid") })
	if i < 0 {
		return fail(http.StatusNotFound, "Runner %s not found", r.PathValue("uuid"))
	}
	known, now := s.runners[i], s.options.Clock.Now()
	switch action := r.PathValue("action"); action {
	case "online":
		known.online, known.seen, known.unhealthy = true, true, false
	case "offline":
		known.online, known.seen, known.unhealthy = false, true, false
	case "unhealthy":
		known.unhealthy, known.seen = true, true
	case "idle":
		if known.step != nil {
			s.complete(known, true)
		}
	case "step":
		known.step = &step{StepInfo: StepInfo{UUID: body.Step, Outcome: OutcomeRunning, RunnerUUID: known.uuid}, told: true}
		if body.Step == "" {
			known.step.UUID = newUUID()
		}
	default:
		return fail(http.StatusNotFound, "action: %q, want online, step, idle, offline or unhealthy", action)
	}
	known.manual, known.updatedOn = true, now
	s.advance()
	writeJSON(w, http.StatusOK, s.show(known))
	return nil
}

// complete ends a runner's step.
func (s *Server) complete(r *runner, passed bool) {
	r.step.Outcome, r.step.CompletedOn = OutcomePassed, s.options.Clock.Now()
	if !passed {
		r.step.Outcome, r.step.Cause = OutcomeFailed, "step failed"
	}
	r.step, r.updatedOn = nil, s.options.Clock.Now()
}

func (c Counters) clone() Counters {
	for _, m := range []*map[string]int{&c.Calls, &c.StepsLost, &c.PeakOnline, &c.PeakRegistered} {
		copied := make(map[string]int, len(*m))
		for key, n := range *m {
			copied[key] = n
		}
		*m = copied
	}
	return c
}
