package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (s *Server) getWorkspace(w http.ResponseWriter, r *http.Request) error {
	_, ws, _, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"type": "workspace", "uuid": ws.uuid, "slug": ws.slug, "name": ws.slug})
	return nil
}

func (s *Server) getRepository(w http.ResponseWriter, r *http.Request) error {
	_, ws, repo, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"type": "repository", "uuid": repo.uuid, "slug": repo.slug, "full_name": ws.slug + "/" + repo.slug,
		"workspace": map[string]string{"uuid": ws.uuid, "slug": ws.slug},
	})
	return nil
}

// queue adds a pipeline of parallel steps. Called locked.
func (s *Server) queue(ws workspace, repo repository, labels []string, duration time.Duration, count int) []string {
	now := s.options.Clock.Now()
	s.builds++
	p := &pipeline{
		uuid: newUUID(), commit: fmt.Sprintf("%040x", s.builds), workspace: ws, repository: repo, buildNumber: s.builds, createdOn: now,
	}
	var uuids []string
	for range count {
		queued := &step{
			StepInfo: StepInfo{
				UUID: newUUID(), Workspace: ws.slug, Repository: repo.slug, Labels: slices.Clone(labels),
				Duration: duration.String(), QueuedOn: now, Outcome: OutcomeQueued,
			},
			pipeline: p.uuid, duration: duration,
		}
		p.steps = append(p.steps, queued)
		uuids = append(uuids, queued.UUID)
	}
	s.steps = append(s.steps, p.steps...)
	s.pipelines = append(s.pipelines, p)
	return uuids
}

// states of a pipeline, for the filter of the list.
func (p *pipeline) state() (status string, state map[string]any) {
	waiting, running, failed := 0, 0, 0
	for _, st := range p.steps {
		switch st.Outcome {
		case OutcomeQueued:
			waiting++
		case OutcomeRunning:
			running++
		case OutcomeFailed:
			failed++
		}
	}
	switch {
	case running > 0:
		return "IN_PROGRESS", map[string]any{"name": "IN_PROGRESS", "stage": map[string]string{"name": "RUNNING"}}
	case waiting == len(p.steps):
		return "PENDING", map[string]any{"name": "PENDING"}
	case waiting > 0:
		return "IN_PROGRESS", map[string]any{"name": "IN_PROGRESS", "stage": map[string]string{"name": "PENDING"}}
	case failed > 0:
		return "COMPLETED", map[string]any{"name": "COMPLETED", "result": map[string]string{"name": "FAILED"}}
	}
	return "COMPLETED", map[string]any{"name": "COMPLETED", "result": map[string]string{"name": "SUCCESSFUL"}}
}

func (s *Server) listPipelines(w http.ResponseWriter, r *http.Request) error {
	_, ws, repo, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	page, pagelen, err := paging(r)
	if err != nil {
		return err
	}
	wanted := r.URL.Query()["status"]
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []map[string]any{}
	for _, p := range slices.Backward(s.pipelines) { // -created_on
		status, state := p.state()
		building := status == "IN_PROGRESS" && slices.Contains(wanted, "BUILDING")
		if p.repository != repo || len(wanted) > 0 && !slices.Contains(wanted, status) && !building {
			continue
		}
		all = append(all, map[string]any{
			"type": "pipeline", "uuid": p.uuid, "build_number": p.buildNumber, "state": state,
			"created_on": p.createdOn.UTC().Format(time.RFC3339Nano),
			"repository": map[string]string{"uuid": repo.uuid, "full_name": ws.slug + "/" + repo.slug},
			"target": map[string]any{
				"type": "pipeline_ref_target", "ref_type": "branch", "ref_name": "main",
				"commit": map[string]string{"hash": p.commit}, "selector": map[string]string{"type": "default"},
			},
		})
	}
	values := all[min(len(all), (page-1)*pagelen):min(len(all), page*pagelen)]
	// The live list has no next: clients page by number.
	writeJSON(w, http.StatusOK, map[string]any{"page": page, "size": len(all), "pagelen": pagelen, "values": values})
	return nil
}

func (s *Server) findPipeline(repo repository, matches func(*pipeline) bool) (*pipeline, error) {
	for _, p := range s.pipelines {
		if p.repository == repo && matches(p) {
			return p, nil
		}
	}
	return nil, fail(http.StatusNotFound, "Not found")
}

func (s *Server) listSteps(w http.ResponseWriter, r *http.Request) error {
	_, _, repo, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPipeline(repo, func(p *pipeline) bool { return p.uuid == r.PathValue("uuid") })
	if err != nil {
		return err
	}
	values := []map[string]any{}
	for _, st := range p.steps {
		values = append(values, st.show())
	}
	writeJSON(w, http.StatusOK, map[string]any{"page": 1, "size": len(values), "pagelen": len(values), "values": values})
	return nil
}

func (st *step) show() map[string]any {
	shown := map[string]any{
		"type": "pipeline_step", "uuid": st.UUID, "name": "step",
		"trigger": map[string]string{"type": "pipeline_step_trigger_automatic"},
	}
	switch st.Outcome {
	case OutcomeQueued:
		shown["state"] = map[string]any{"name": "PENDING", "type": "pipeline_step_state_pending", "stage": map[string]string{"type": "pipeline_step_state_pending_pending"}}
	case OutcomeRunning:
		shown["state"] = map[string]any{"name": "IN_PROGRESS", "type": "pipeline_step_state_in_progress"}
	case OutcomePassed:
		shown["state"] = map[string]any{"name": "COMPLETED", "result": map[string]string{"name": "SUCCESSFUL"}}
	default:
		shown["state"] = map[string]any{"name": "COMPLETED", "result": map[string]string{"name": "FAILED"}}
	}
	if !st.StartedOn.IsZero() {
		shown["started_on"] = st.StartedOn.UTC().Format(time.RFC3339Nano)
	}
	if !st.CompletedOn.IsZero() {
		shown["completed_on"] = st.CompletedOn.UTC().Format(time.RFC3339Nano)
	}
	return shown
}

// getSource writes the file that would have queued the pipeline's steps.
func (s *Server) getSource(w http.ResponseWriter, r *http.Request) error {
	_, _, repo, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPipeline(repo, func(p *pipeline) bool { return p.commit == r.PathValue("commit") })
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("pipelines:\n  default:\n    - parallel:\n")
	for _, st := range p.steps {
		b.WriteString("        - step:\n            runs-on:\n")
		for _, label := range st.Labels {
			b.WriteString("              - " + strconv.Quote(label) + "\n")
		}
		fmt.Fprintf(&b, "            script:\n              - sleep %d\n", int(st.duration.Seconds()))
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(b.String()))
	return nil
}
