package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"
)

const help = `Bitbucket Cloud emulator

Bitbucket's routes, under /2.0 and /internal, with a slug or {uuid} for each name:
  GET POST            /workspaces/{workspace}/pipelines-config/runners
  GET PUT DELETE      /workspaces/{workspace}/pipelines-config/runners/{uuid}
  PUT                 /workspaces/{workspace}/pipelines-config/runners/{uuid}/state   (/internal alone)
  the same under      /repositories/{workspace}/{repo_slug}
and under /2.0 alone:
  GET                 /user, /workspaces/{workspace}, /repositories/{workspace}/{repo_slug}
  GET                 /repositories/{workspace}/{repo_slug}/pipelines[/{uuid}/steps]
  GET                 /repositories/{workspace}/{repo_slug}/src/{commit}/bitbucket-pipelines.yml
POST /site/oauth2/access_token    for OAuth consumers;  POST /oauth/token  for runners

Accepted: OAuth consumer emulator-client:emulator-secret, API token dev@example.com:emulator-token
(or emulator-readonly-token), app password dev:emulator-app-password, access tokens emulator-access-token and emulator-readonly-token.

Controls:
  POST /_emulator/steps     {"workspace":"acme","repository":"app","labels":["linux","my.group"],"duration":"30s","count":5}
  GET  /_emulator/state     runners, steps, counters
  POST /_emulator/faults    {"rules":[{"method":"GET","path":"/2.0/workspaces/*","status":503,"probability":0.5,"latency":"2s","count":10,
                             "dropAfterWrite":true,"applyAfter":"20s","staleFor":"15s","emptyList":true,"truncate":true}]}
  POST /_emulator/runners/{uuid}/online | /step {"step":"{uuid}"} | /idle | /offline | /unhealthy | /gone | /cordon | /uncordon
  POST /_emulator/workspaces/{workspace}/delete | /rename {"slug":"new"};  the same under /_emulator/repositories/{workspace}/{repo_slug}
  POST /_emulator/pipelines/{uuid}/stop
`

func (s *Server) controlRoutes() {
	s.control("GET /{$}", func(*call) answer { return textAnswer(http.StatusOK, help) })
	s.control("GET /healthz", func(*call) answer { return textAnswer(http.StatusOK, "ok\n") })
	s.control("POST /_emulator/steps", s.queueSteps)
	s.control("GET /_emulator/state", func(c *call) answer { return jsonAnswer(http.StatusOK, s.state(c.now)) })
	s.control("POST /_emulator/faults", s.setFaults)
	s.control("POST /_emulator/runners/{uuid}/{action}", s.setRunner)
	s.control("POST /_emulator/pipelines/{uuid}/stop", s.stopPipeline)
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
	p := s.enqueue(repo, given.Labels, duration, count, c.now)
	queued := StepsQueued{Pipeline: p.uuid}
	for _, st := range p.steps {
		queued.Steps = append(queued.Steps, st.uuid)
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
		if !labelPattern.MatchString(l) {
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
	open := 0
	for _, p := range s.pipelines {
		open += p.open
	}
	if open+count > maxOpenSteps {
		faults = append(faults, fmt.Errorf("count: %d steps are open, want no more than %d", open, maxOpenSteps))
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
			s.finish(r, OutcomePassed, "", c.now)
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

// stopPipeline cancels the open steps of a pipeline, as a user does. A runner learns of it
// when it reports the step's end.
func (s *Server) stopPipeline(c *call) answer {
	i := slices.IndexFunc(s.pipelines, func(p *pipeline) bool { return p.uuid == c.PathValue("uuid") })
	if i < 0 {
		return failure(http.StatusNotFound, fmt.Sprintf("Pipeline %s not found", c.PathValue("uuid")))
	}
	for _, st := range slices.Clone(s.pipelines[i].steps) {
		switch st.outcome {
		case OutcomeQueued: // the next dispatch removes it from the queue
			s.end(st, OutcomeFailed, CauseStopped, c.now)
		case OutcomeRunning:
			s.finish(s.runners[st.runner], OutcomeFailed, CauseStopped, c.now)
		}
	}
	s.dispatch(c.now)
	return noContent()
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
		if st.uuid == given.Step {
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

func (st *step) info() StepInfo {
	repo := st.pipeline.repository
	return StepInfo{
		UUID: st.uuid, PipelineUUID: st.pipeline.uuid, Workspace: repo.workspace.Slug, Repository: repo.Slug,
		Labels: st.labels, Duration: st.duration.String(), QueuedOn: st.queuedOn, StartedOn: st.startedOn,
		CompletedOn: st.completed, RunnerUUID: st.runner, Outcome: st.outcome, Cause: st.cause,
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
	for _, p := range s.pipelines {
		for _, st := range p.steps {
			state.Steps = append(state.Steps, st.info())
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
