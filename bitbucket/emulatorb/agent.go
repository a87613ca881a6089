package emulator

import (
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// Assignment is what a runner process is told when it asks for work; Step is
// empty where there is none.
type Assignment struct {
	Step       string `json:"step,omitempty"`
	Pipeline   string `json:"pipeline,omitempty"`
	Account    string `json:"account,omitempty"`
	Repository string `json:"repository,omitempty"`
	Duration   string `json:"duration,omitempty"`
}

// agents are the routes of the stand-in runner, in the place of Atlassian's own
// protocol, which is not published.
func (s *Server) agents() {
	s.mux.HandleFunc("POST /_emulator/agent/token", s.agentToken)
	s.mux.HandleFunc("POST /_emulator/agent/poll", s.agentPoll)
	s.mux.HandleFunc("POST /_emulator/agent/complete", s.agentComplete)
}

// agentToken authenticates a runner's process. Of one that had a step, the
// process was started anew: that step is lost.
func (s *Server) agentToken(w http.ResponseWriter, r *http.Request) {
	id, secret := r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.runners {
		if known.clientID != id || known.clientSecret != secret {
			continue
		}
		if known.step != nil && known.step.told {
			s.lose(known, CauseProcessGone)
		}
		known.token = uuid.NewString()
		writeJSON(w, http.StatusOK, map[string]any{"access_token": known.token, "expires_in": 3600, "token_type": "bearer"})
		return
	}
	writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "access_denied", "error_description": "Unauthorized"})
}

// agent finds the runner whose process calls. Called locked.
func (s *Server) agent(r *http.Request) *runner {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	for _, known := range s.runners {
		if ok && known.token != "" && known.token == token {
			return known
		}
	}
	return nil
}

func (s *Server) agentPoll(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, now := s.agent(r), s.options.Clock.Now()
	if known == nil {
		writeError(w, fail(http.StatusUnauthorized, "Unauthorized"))
		return
	}
	if !known.online {
		known.updatedOn = now
	}
	known.online, known.seen, known.manual, known.lastContact = true, true, false, now
	s.advance()
	var assignment Assignment
	if st := known.step; st != nil && !st.told && !now.Before(st.learnsOn) {
		st.told = true
		assignment = Assignment{Step: st.UUID, Pipeline: st.pipeline, Duration: st.duration.String()}
		for _, ws := range s.workspaces {
			if ws.slug != st.Workspace {
				continue
			}
			assignment.Account = ws.uuid
			for _, repo := range ws.repositories {
				if repo.slug == st.Repository {
					assignment.Repository = repo.uuid
				}
			}
		}
	}
	writeJSON(w, http.StatusOK, assignment)
}

func (s *Server) agentComplete(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Step   string `json:"step"`
		Passed bool   `json:"passed"`
	}
	if err := readJSON(r, &body, true); err != nil {
		writeError(w, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.agent(r)
	if known == nil || known.step == nil || known.step.UUID != body.Step {
		writeError(w, fail(http.StatusConflict, "step %s is not this runner's", body.Step))
		return
	}
	known.lastContact = s.options.Clock.Now()
	s.complete(known, body.Passed)
	s.advance()
	writeJSON(w, http.StatusOK, struct{}{})
}
