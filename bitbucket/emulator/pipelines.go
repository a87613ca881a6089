package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

type (
	pipelineBody struct {
		Type        string         `json:"type"`
		UUID        string         `json:"uuid"`
		BuildNumber int            `json:"build_number"`
		State       pipelineState  `json:"state"`
		Target      targetBody     `json:"target"`
		CreatedOn   time.Time      `json:"created_on"`
		CompletedOn time.Time      `json:"completed_on,omitzero"`
		Repository  repositoryBody `json:"repository"`
	}
	// pipelineState is the state of a pipeline or a step.
	pipelineState struct {
		Type   string     `json:"type"`
		Name   string     `json:"name"`
		Stage  *namedType `json:"stage,omitempty"`
		Result *namedType `json:"result,omitempty"`
	}
	namedType struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}
	targetBody struct {
		Type     string     `json:"type"`
		RefType  string     `json:"ref_type"`
		RefName  string     `json:"ref_name"`
		Commit   commitBody `json:"commit"`
		Selector typed      `json:"selector"`
	}
	commitBody struct {
		Type string `json:"type"`
		Hash string `json:"hash"`
	}
	typed struct {
		Type string `json:"type"`
	}
	stepBody struct {
		Type        string        `json:"type"`
		UUID        string        `json:"uuid"`
		Name        string        `json:"name"`
		State       pipelineState `json:"state"`
		Trigger     typed         `json:"trigger"`
		Pipeline    stepRef       `json:"pipeline"`
		StartedOn   time.Time     `json:"started_on,omitzero"`
		CompletedOn time.Time     `json:"completed_on,omitzero"`
	}
)

// count returns how many of the pipeline's steps have an outcome.
func (p *pipeline) count(outcome string) int {
	n := 0
	for _, st := range p.steps {
		if st.outcome == outcome {
			n++
		}
	}
	return n
}

func (p *pipeline) state() pipelineState {
	switch {
	case p.open == 0:
		result := namedType{"pipeline_state_completed_successful", "SUCCESSFUL"}
		if p.count(OutcomeFailed) > 0 {
			result = namedType{"pipeline_state_completed_failed", "FAILED"}
		}
		return pipelineState{Type: "pipeline_state_completed", Name: "COMPLETED", Result: &result}
	case p.count(OutcomeRunning) > 0:
		return pipelineState{Type: "pipeline_state_in_progress", Name: "IN_PROGRESS", Stage: &namedType{"pipeline_state_in_progress_running", "RUNNING"}}
	case p.count(OutcomeQueued) == len(p.steps):
		return pipelineState{Type: "pipeline_state_pending", Name: "PENDING"}
	}
	return pipelineState{Type: "pipeline_state_in_progress", Name: "IN_PROGRESS", Stage: &namedType{"pipeline_state_in_progress_pending", "PENDING"}}
}

// inStatus reports whether one of the given status filters matches. Without a filter,
// everything matches.
func (p *pipeline) inStatus(filters []string) bool {
	state := p.state()
	names := []string{state.Name}
	if state.Name == "IN_PROGRESS" {
		names = append(names, "BUILDING")
	}
	if state.Result != nil {
		names = append(names, state.Result.Name)
	}
	return len(filters) == 0 || slices.ContainsFunc(filters, func(f string) bool { return slices.Contains(names, f) })
}

func (p *pipeline) body() pipelineBody {
	b := pipelineBody{
		Type: "pipeline", UUID: p.uuid, BuildNumber: p.number, State: p.state(), CreatedOn: p.createdOn.UTC(),
		Target: targetBody{
			Type: "pipeline_ref_target", RefType: "branch", RefName: "main",
			Commit: commitBody{"commit", p.commit}, Selector: typed{"default"},
		},
		Repository: repositoryBody{Type: "repository", UUID: p.repository.UUID, Name: p.repository.Slug, FullName: p.repository.scope.name},
	}
	if p.open == 0 {
		for _, st := range p.steps {
			if st.completed.After(b.CompletedOn) {
				b.CompletedOn = st.completed.UTC()
			}
		}
	}
	return b
}

// listPipelines lists pipelines without a next link, as Bitbucket does. Clients count
// pages.
func (s *Server) listPipelines(c *call) answer {
	repo, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	number, length, refusal, ok := pageOf(c)
	if !ok {
		return refusal
	}
	query := c.URL.Query()
	var bodies []pipelineBody
	for _, p := range s.pipelines {
		if p.repository == repo && p.inStatus(query["status"]) && !c.fault.EmptyList {
			bodies = append(bodies, p.body())
		}
	}
	if query.Get("sort") == "-created_on" {
		slices.Reverse(bodies)
	}
	page := cutPage(c, bodies, number, length)
	page.Next, page.Previous = "", ""
	return jsonAnswer(http.StatusOK, page)
}

func (st *step) body(name string) stepBody {
	b := stepBody{
		Type: "pipeline_step", UUID: st.uuid, Name: name, Trigger: typed{"pipeline_step_trigger_automatic"},
		Pipeline: stepRef{Type: "pipeline", UUID: st.pipeline.uuid},
	}
	if !st.startedOn.IsZero() {
		b.StartedOn = st.startedOn.UTC()
	}
	switch st.outcome {
	case OutcomeQueued:
		b.State = pipelineState{Type: "pipeline_step_state_pending", Name: "PENDING", Stage: &namedType{"pipeline_step_state_pending_pending", "PENDING"}}
	case OutcomeRunning:
		b.State = pipelineState{Type: "pipeline_step_state_in_progress", Name: "IN_PROGRESS", Stage: &namedType{"pipeline_step_state_in_progress_running", "RUNNING"}}
	default:
		result := namedType{"pipeline_step_state_completed_successful", "SUCCESSFUL"}
		if st.outcome == OutcomeFailed {
			result = namedType{"pipeline_step_state_completed_failed", "FAILED"}
		}
		b.CompletedOn = st.completed.UTC()
		b.State = pipelineState{Type: "pipeline_step_state_completed", Name: "COMPLETED", Result: &result}
	}
	return b
}

func (s *Server) listSteps(c *call) answer {
	repo, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	number, length, refusal, ok := pageOf(c)
	if !ok {
		return refusal
	}
	i := slices.IndexFunc(s.pipelines, func(p *pipeline) bool { return p.repository == repo && p.uuid == c.PathValue("uuid") })
	if i < 0 {
		return failure(http.StatusNotFound, fmt.Sprintf("Pipeline %s not found", c.PathValue("uuid")))
	}
	var bodies []stepBody
	for n, st := range s.pipelines[i].steps {
		bodies = append(bodies, st.body(fmt.Sprintf("Step %d", n+1)))
	}
	return jsonAnswer(http.StatusOK, cutPage(c, bodies, number, length))
}

// getSource returns the source file, which is the only place that contains a step's
// runs-on.
func (s *Server) getSource(c *call) answer {
	repo, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	commit := c.PathValue("commit")
	i := slices.IndexFunc(s.pipelines, func(p *pipeline) bool { return p.repository == repo && p.commit == commit })
	if i < 0 {
		return failure(http.StatusNotFound, fmt.Sprintf("Commit not found: %s", commit))
	}
	return textAnswer(http.StatusOK, s.pipelines[i].source())
}

// source returns the pipeline's bitbucket-pipelines.yml. Labels are quoted, because YAML
// reads a plain 1.0 as a number.
func (p *pipeline) source() string {
	var b strings.Builder
	b.WriteString("pipelines:\n  default:\n    - parallel:\n")
	for n, st := range p.steps {
		fmt.Fprintf(&b, "        - step:\n            name: Step %d\n            runs-on:\n", n+1)
		for _, l := range st.labels {
			fmt.Fprintf(&b, "              - %q\n", l)
		}
		fmt.Fprintf(&b, "            script:\n              - sleep %g\n", st.duration.Seconds())
	}
	return b.String()
}
