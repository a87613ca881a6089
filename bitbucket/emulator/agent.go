package emulator

import (
	"encoding/json"
	"net/http"
	"time"
)

// The protocol between the emulator and the stand-in runner is the emulator's own,
// because the real one is not documented. The process gets a token with its runner's
// OAuth client at the token_endpoint of the registration. With that token it calls the
// paths below on the same host.
const (
	runnerTokenPath = "/oauth/token" //nolint:gosec // a path
	// AgentHeartbeatPath accepts POST and answers 204.
	AgentHeartbeatPath = "/_emulator/agent/heartbeat"
	// AgentStepPath answers GET with 200 and an Assignment, or 204.
	AgentStepPath = "/_emulator/agent/step"
	// AgentResultPath accepts POST of a StepResult and answers 204. It answers 409 if
	// the runner no longer has the step.
	AgentResultPath = "/_emulator/agent/result"
)

// sessionLifetime is longer than the life of any runner process.
const sessionLifetime = 30 * 24 * time.Hour

// Assignment is a step that a runner should run.
type Assignment struct {
	// The UUIDs are in braces.
	Account    string `json:"account"`
	Repository string `json:"repository"`
	Pipeline   string `json:"pipeline"`
	Step       string `json:"step"`
	// Duration as "30s".
	Duration string `json:"duration"`
}

// StepResult is how a step ended.
type StepResult struct {
	// Step is its UUID.
	Step string `json:"step"`
	// Status is PASSED or FAILED.
	Status string `json:"status"`
}

// Statuses of a StepResult.
const (
	ResultPassed = "PASSED"
	ResultFailed = "FAILED"
)

func (s *Server) agentRoutes() {
	s.open("POST "+AgentHeartbeatPath, s.agent(s.agentHeartbeat), false)
	s.open("GET "+AgentStepPath, s.agent(s.agentStep), false)
	s.open("POST "+AgentResultPath, s.agent(s.agentResult), false)
}

// agent returns the runner whose process calls.
func (s *Server) agent(serve handler) handler {
	return func(c *call) answer {
		value, _ := bearerToken(c.Request)
		r, ok := s.sessions[value]
		if !ok {
			return failure(http.StatusUnauthorized, "No such runner, or its process was started again.")
		}
		c.runner, r.seen = r, c.now
		return serve(c)
	}
}

// runnerToken authenticates a runner's process, which makes the runner ONLINE. If the
// runner has a step, the previous process ran it and no longer exists, so the step is
// lost.
func (s *Server) runnerToken(c *call) answer {
	id, secret, refusal, ok := clientCredentials(c)
	if !ok {
		return refusal
	}
	r, ok := s.clients[id]
	if !ok || !same(secret, r.secret) {
		return invalidGrant("Invalid client id or secret")
	}
	if r.step != "" && r.session != "" {
		s.lose(r, CauseProcessGone, c.now)
	}
	s.bury(r)
	r.born, r.seen = c.now, c.now
	delete(s.sessions, r.session)
	r.session, r.byHand, r.gone = newSecret(), false, false
	s.sessions[r.session] = r
	s.beat(r, c.now)
	return jsonAnswer(http.StatusOK, oauthToken{
		AccessToken: r.session, ExpiresIn: int(sessionLifetime / time.Second), TokenType: "Bearer",
	})
}

// beat handles a heartbeat. It makes the runner ONLINE again, unless it is UNHEALTHY.
func (s *Server) beat(r *runner, now time.Time) {
	r.lastBeat = now
	if r.link != statusUnhealthy {
		s.setLink(r, statusOnline, now)
		s.dispatch(now)
	}
}

func (s *Server) agentHeartbeat(c *call) answer {
	s.beat(c.runner, c.now)
	return noContent()
}

func (s *Server) agentStep(c *call) answer {
	st := c.runner.running
	if st == nil || c.now.Sub(st.startedOn) < s.options.AssignLag {
		return noContent()
	}
	repo := st.pipeline.repository
	return jsonAnswer(http.StatusOK, Assignment{
		Account: repo.workspace.UUID, Repository: repo.UUID, Pipeline: st.pipeline.uuid, Step: st.uuid,
		Duration: st.duration.String(),
	})
}

func (s *Server) agentResult(c *call) answer {
	var result StepResult
	if err := json.Unmarshal(c.body, &result); err != nil || (result.Status != ResultPassed && result.Status != ResultFailed) {
		return failure(http.StatusBadRequest, "The request body is not a step's result: want step, and status PASSED or FAILED.")
	}
	if c.runner.running == nil || c.runner.step != result.Step {
		return failure(http.StatusConflict, "The runner does not have this step.")
	}
	if result.Status == ResultPassed {
		s.finish(c.runner, OutcomePassed, "", c.now)
	} else {
		s.finish(c.runner, OutcomeFailed, CauseStepFailed, c.now)
	}
	s.dispatch(c.now)
	return noContent()
}
