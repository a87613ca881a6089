package emulator

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/registration"
)

//go:embed help.txt
var help string

func (s *Server) controlRoutes() {
	s.control("GET /{$}", func(*call) answer { return textAnswer(http.StatusOK, help) })
	s.control("GET /healthz", func(*call) answer { return textAnswer(http.StatusOK, "ok\n") })
	s.control("POST /_emulator/steps", s.queueSteps)
	s.control("GET /_emulator/state", func(c *call) answer { return jsonAnswer(http.StatusOK, s.state(c.now)) })
	s.control("POST /_emulator/faults", s.setFaults)
	s.control("POST /_emulator/runners/{uuid}/{action}", s.setRunner)
	s.control("POST /_emulator/pipelines/{uuid}/{action}", s.changePipeline)
	s.control("POST /_emulator/plan", s.planSteps)
	s.control("POST /_emulator/steps/{uuid}/start", s.startStep)
	s.control("POST /_emulator/push", s.pushFile)
	s.control("POST /_emulator/webhooks", s.addWebhook)
	s.control("GET /_emulator/webhooks", func(*call) answer { return jsonAnswer(http.StatusOK, s.webhooks.Record()) })
	s.control("DELETE /_emulator/webhooks/{uuid}", s.removeWebhook)
	s.control("POST /_emulator/events", s.sendEvent)
	s.control("POST /_emulator/workspaces/{workspace}/{action}", s.changeScope)
	s.control("POST /_emulator/repositories/{workspace}/{repo_slug}/{action}", s.changeScope)
}

// decodeStrict decodes a control's body. It refuses unknown keys, which are mistakes.
func decodeStrict(body []byte, into any) (refusal answer, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, trailing := decoder.Token(); !errors.Is(trailing, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return failure(http.StatusBadRequest, "The request body: "+err.Error()), false
	}
	return answer{}, true
}

func (s *Server) queueSteps(c *call) answer {
	var given StepRequest
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	repo, duration, count, err := s.readSteps(given)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	p, err := s.enqueue(repo, given.Labels, duration, count, c.now)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	queued := StepsQueued{Pipeline: p.UUID}
	for _, st := range p.Steps {
		queued.Steps = append(queued.Steps, st.UUID)
	}
	return jsonAnswer(http.StatusOK, queued)
}

// readSteps parses a request. The error lists all its faults.
func (s *Server) readSteps(given StepRequest) (repo *repository, duration time.Duration, count int, err error) {
	var faults []error
	repo, ok := s.findRepository(given.Workspace, given.Repository)
	if !ok {
		faults = append(faults, fmt.Errorf("workspace, repository: no %q in %q", given.Repository, given.Workspace))
	}
	if len(given.Labels) == 0 {
		faults = append(faults, errors.New("labels: none given, want at least one"))
	}
	for _, l := range given.Labels {
		if !registration.IsLabel(l) {
			faults = append(faults, fmt.Errorf("labels: %q, want lower-case letters, digits and dots", l))
		}
	}
	if given.Duration != "" {
		var parseErr error
		if duration, parseErr = time.ParseDuration(given.Duration); parseErr != nil || duration < 0 {
			faults = append(faults, fmt.Errorf("duration: %q, want a duration such as 30s", given.Duration))
		}
	}
	count = given.Count
	if count == 0 {
		count = 1
	}
	if count < 1 || count > maxSteps {
		faults = append(faults, fmt.Errorf("count: %d, want 1 to %d", given.Count, maxSteps))
	}
	if !s.pipelines.HasRoom(count) {
		faults = append(faults, fmt.Errorf("count: %d, want no more than %d open steps at once", count, maxOpenSteps))
	}
	return repo, duration, count, errors.Join(faults...)
}

// setRunner sets a runner's state by hand.
func (s *Server) setRunner(c *call) answer {
	r, ok := s.runners[c.PathValue("uuid")]
	if !ok {
		return failure(http.StatusNotFound, fmt.Sprintf("Runner %s not found", c.PathValue("uuid")))
	}
	switch c.PathValue("action") {
	case ActionOnline:
		r.byHand = true
		s.setLink(r, statusOnline, c.now)
	case ActionStep:
		if refusal, ok := s.putStep(c, r); !ok {
			return refusal
		}
	case ActionIdle:
		if r.step != "" {
			return s.endStep(c, r)
		}
	case ActionOffline:
		s.disconnect(r, c.now)
	case ActionGone:
		r.gone = true
	case ActionUnhealthy:
		s.setLink(r, statusUnhealthy, c.now)
	case ActionCordon, ActionUncordon:
		r.cordoned = c.PathValue("action") == ActionCordon
	default:
		return failure(http.StatusNotFound, fmt.Sprintf("Action %q: want online, step, idle, offline, unhealthy, gone, cordon or uncordon", c.PathValue("action")))
	}
	s.dispatch(c.now)
	return jsonAnswer(http.StatusOK, r.info())
}

// endStep ends the runner's step with the result in the call, or as planned.
func (s *Server) endStep(c *call, r *runner) answer {
	var given struct {
		Result string `json:"result"`
	}
	if len(c.body) > 0 {
		if refusal, ok := decodeStrict(c.body, &given); !ok {
			return refusal
		}
	}
	if given.Result == "" && r.running != nil {
		given.Result = r.running.Result
	}
	s.conclude(r, given.Result, c.now)
	s.dispatch(c.now)
	return jsonAnswer(http.StatusOK, r.info())
}

func (s *Server) putStep(c *call, r *runner) (refusal answer, ok bool) {
	given := struct {
		Step string `json:"step"`
	}{}
	if len(c.body) > 0 {
		if refusal, ok := decodeStrict(c.body, &given); !ok {
			return refusal, false
		}
	}
	if given.Step == "" {
		given.Step = newUUID()
	}
	if !uuidPattern.MatchString(given.Step) {
		return failure(http.StatusBadRequest, fmt.Sprintf("step: %q, want a UUID in braces", given.Step)), false
	}
	if r.step != "" {
		return failure(http.StatusConflict, "The runner has step "+r.step), false
	}
	for _, st := range s.queue {
		if st.UUID == given.Step {
			s.assign(st, r, c.now) // the next dispatch removes it from the queue
			return answer{}, true
		}
	}
	r.step, r.stateUpdatedOn, r.updatedOn = given.Step, c.now, c.now
	s.changed(r.scope, c.now)
	return answer{}, true
}

func (r *runner) info() RunnerInfo {
	return RunnerInfo{
		UUID: r.uuid, Name: r.name, Labels: r.labels, Scope: r.scope.name, Status: r.status(),
		Connected: r.connected(), StepUUID: r.step, StepsTaken: r.stepsTaken,
		CreatedOn: r.createdOn, LastHeartbeat: r.lastBeat,
	}
}

func stepInfo(st *pipelines.Step) StepInfo {
	names := home(st).Names()
	return StepInfo{
		UUID: st.UUID, PipelineUUID: st.Pipeline.UUID, Build: st.Pipeline.Number, Name: st.Title(), Workspace: names.Workspace, Repository: names.Slug,
		Labels: st.Labels, Duration: st.Duration.String(), QueuedOn: st.QueuedOn, StartedOn: st.StartedOn,
		CompletedOn: st.CompletedOn, RunnerUUID: st.Runner, Outcome: st.Outcome, Cause: st.Cause, Retries: st.Retries,
	}
}

func (s *Server) state(now time.Time) State {
	state := State{Now: now, Runners: []RunnerInfo{}, Steps: []StepInfo{}, Counters: s.counters}
	for _, w := range s.workspaces {
		for _, sc := range w.scopes() {
			for _, r := range sc.runners {
				state.Runners = append(state.Runners, r.info())
			}
		}
	}
	for _, p := range s.pipelines.All {
		for _, st := range slices.Concat(p.Earlier, p.Steps) {
			state.Steps = append(state.Steps, stepInfo(st))
		}
	}
	c := &state.Counters
	c.Calls, c.StepsLost = maps.Clone(c.Calls), maps.Clone(c.StepsLost)
	c.PeakOnline, c.PeakRegistered = maps.Clone(c.PeakOnline), maps.Clone(c.PeakRegistered)
	c.PeakAlive = s.peakAlive()
	return state
}

// State returns the answer of GET /_emulator/state.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	s.advance(now)
	state := s.state(now)
	for i := range state.Runners {
		state.Runners[i].Labels = slices.Clone(state.Runners[i].Labels)
	}
	return state
}
