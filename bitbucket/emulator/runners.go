package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	"bitbucket-runner-scaler/bitbucket/emulator/registration"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

func (s *Server) listRunners(c *call) answer {
	sc, refusal, ok := s.scopeOf(c)
	if !ok {
		return refusal
	}
	asked, err := paging.Of(c.URL, c.base)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	var bodies []resource.Runner
	switch {
	case c.fault.EmptyList:
	case c.fault.StaleFor > 0:
		for _, r := range sc.history.AsOf(c.now.Add(-c.fault.StaleFor)) {
			bodies = append(bodies, s.shown(c, &r))
		}
	default:
		for _, r := range sc.runners {
			bodies = append(bodies, s.shown(c, r))
		}
	}
	page := paging.Cut(asked, bodies)
	// Bitbucket was observed to return the number of items on the page as pagelen.
	page.PageLen = len(page.Values)
	return jsonAnswer(http.StatusOK, page)
}

// shown returns a runner as the caller sees it.
func (s *Server) shown(c *call, r *runner) resource.Runner {
	b := s.body(r, c.base)
	if c.fault.HideStep {
		b.State.Step = nil
	}
	return b
}

// runnerOf returns the runner in the call's path.
func (s *Server) runnerOf(c *call) (found *runner, refusal answer, ok bool) {
	sc, refusal, ok := s.scopeOf(c)
	if !ok {
		return nil, refusal, false
	}
	r, ok := s.runners[c.PathValue("uuid")]
	if !ok || r.scope != sc {
		return nil, failure(http.StatusNotFound, fmt.Sprintf("Runner %s not found", c.PathValue("uuid"))), false
	}
	return r, answer{}, true
}

func (s *Server) getRunner(c *call) answer {
	r, refusal, ok := s.runnerOf(c)
	if !ok {
		return refusal
	}
	return jsonAnswer(http.StatusOK, s.shown(c, r))
}

func (s *Server) createRunner(c *call) answer {
	sc, refusal, ok := s.scopeOf(c)
	if !ok {
		return refusal
	}
	var given registration.Registration
	if err := json.Unmarshal(c.body, &given); err != nil {
		return failure(http.StatusBadRequest, "The request body is not a runner: "+err.Error())
	}
	if s.options.AddLabels {
		given.Complete()
	}
	if fields := given.Faults(); len(fields) > 0 {
		return badFields(fields)
	}
	if _, exists := s.runners[given.UUID]; exists {
		return failure(http.StatusConflict, fmt.Sprintf("A runner with uuid %s exists already", given.UUID))
	}
	if len(sc.runners)+sc.coming >= maxRunners {
		return failure(http.StatusBadRequest, fmt.Sprintf("The maximum of %d runners for this %s has been reached.", maxRunners, sc.kind))
	}
	if given.UUID == "" {
		given.UUID = newUUID()
	}
	r := &runner{
		uuid: given.UUID, name: given.Name, labels: slices.Clone(given.Labels), labelSet: labelSet(given.Labels),
		scope: sc, link: statusUnregistered,
		createdOn: c.now, updatedOn: c.now, stateUpdatedOn: c.now, clientID: newSecret()[:32], secret: newSecret(),
	}
	body := s.body(r, c.base)
	body.OAuthClient.Secret = r.secret
	sc.coming++
	s.commit(c, func(now time.Time) {
		sc.coming--
		if _, exists := s.runners[r.uuid]; !exists {
			s.register(r, now)
		}
	})
	return jsonAnswer(http.StatusOK, body)
}

func (s *Server) register(r *runner, now time.Time) {
	r.scope.runners = append(r.scope.runners, r)
	s.runners[r.uuid], s.clients[r.clientID] = r, r
	s.changed(r.scope, now)
}

// updateRunner changes nothing, or with Options.RenameOnPut the name. It is not documented
// what a body can change, so clients cannot rely on it.
func (s *Server) updateRunner(c *call) answer {
	r, refusal, ok := s.runnerOf(c)
	if !ok {
		return refusal
	}
	given := registration.Registration{Name: r.name, Labels: r.labels}
	if err := json.Unmarshal(c.body, &given); err != nil {
		return failure(http.StatusBadRequest, "The request body is not a runner: "+err.Error())
	}
	shown := *r
	if s.options.RenameOnPut {
		if fields := (registration.Registration{Name: given.Name, Labels: r.labels}).Faults(); len(fields) > 0 {
			return badFields(fields)
		}
		shown.name = given.Name
		s.commit(c, func(now time.Time) {
			if s.runners[r.uuid] == r {
				r.name, r.updatedOn = given.Name, now
				s.changed(r.scope, now)
			}
		})
	}
	return jsonAnswer(http.StatusOK, s.shown(c, &shown))
}

// setRunnerState implements the internal route with which Atlassian's own autoscaler
// disables runners.
func (s *Server) setRunnerState(c *call) answer {
	r, refusal, ok := s.runnerOf(c)
	if !ok {
		return refusal
	}
	var given struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(c.body, &given); err != nil {
		return failure(http.StatusBadRequest, "The request body is not a state: "+err.Error())
	}
	if given.Status != statusDisabled && given.Status != statusEnabled {
		return badFields(map[string][]string{"status": {fmt.Sprintf("%q is not one of DISABLED, ENABLED.", given.Status)}})
	}
	disabled := given.Status == statusDisabled
	s.commit(c, func(now time.Time) {
		if s.runners[r.uuid] != r || r.disabled == disabled {
			return
		}
		r.disabled, r.stateUpdatedOn, r.updatedOn = disabled, now, now
		s.changed(r.scope, now)
		s.dispatch(now)
	})
	shown := *r
	shown.disabled = disabled
	return jsonAnswer(http.StatusOK, s.shown(c, &shown))
}

// deleteRunner also deletes busy runners. Their step is lost.
func (s *Server) deleteRunner(c *call) answer {
	r, refusal, ok := s.runnerOf(c)
	if !ok {
		return refusal
	}
	s.commit(c, func(now time.Time) { s.remove(r, now) })
	return noContent()
}

func (s *Server) remove(r *runner, now time.Time) {
	if s.runners[r.uuid] != r {
		return
	}
	if r.step != "" {
		s.counters.BusyRunnersDeleted++
		s.lose(r, CauseRunnerDeleted, now)
	}
	s.bury(r)
	delete(s.runners, r.uuid)
	delete(s.clients, r.clientID)
	delete(s.sessions, r.session)
	r.scope.runners = slices.DeleteFunc(r.scope.runners, func(other *runner) bool { return other == r })
	s.changed(r.scope, now)
}
