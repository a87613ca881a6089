package emulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/agent"
)

const runnerTokenPath = "/oauth/token" //nolint:gosec // a path

// sessionLifetime is longer than the life of any runner process.
const sessionLifetime = 30 * 24 * time.Hour

func (s *Server) agentRoutes() {
	s.open("POST "+agent.HeartbeatPath, s.process(s.agentHeartbeat), false)
	s.open("GET "+agent.StepPath, s.process(s.agentStep), false)
	s.open("POST "+agent.ResultPath, s.process(s.agentResult), false)
}

// process returns the runner whose process calls.
func (s *Server) process(serve handler) handler {
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
	if st == nil || c.now.Sub(st.StartedOn) < s.options.AssignLag {
		return noContent()
	}
	repo := home(st)
	return jsonAnswer(http.StatusOK, agent.Assignment{
		Account: repo.workspace.UUID, Repository: repo.UUID, Pipeline: st.Pipeline.UUID, Step: st.UUID,
		Duration: st.Duration.String(), Status: st.Result,
	})
}

func (s *Server) agentResult(c *call) answer {
	var result agent.Result
	if err := json.Unmarshal(c.body, &result); err != nil || !slices.Contains([]string{agent.Passed, agent.Failed, agent.Error}, result.Status) {
		return failure(http.StatusBadRequest, "The request body is not a step's result: want step, and status PASSED, FAILED or ERROR.")
	}
	if c.runner.running == nil || c.runner.step != result.Step {
		return failure(http.StatusConflict, "The runner does not have this step.")
	}
	s.conclude(c.runner, result.Status, c.now)
	s.dispatch(c.now)
	return noContent()
}
