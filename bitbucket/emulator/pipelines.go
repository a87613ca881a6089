package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
)

// pipelineRoutes registers the routes of pipelines under a root. Clients use both roots.
func (s *Server) pipelineRoutes(root string) {
	all := root + "/repositories/{workspace}/{repo_slug}/pipelines"
	one := all + "/{uuid}"
	s.api("GET "+all, access.Pipeline, s.listPipelines)
	s.api("POST "+all, access.PipelineWrite, s.startPipeline)
	s.api("GET "+one, access.Pipeline, s.ofPipeline(func(c *call, p *pipelines.Pipeline) answer {
		return jsonAnswer(http.StatusOK, p.Body(c.site(), Username))
	}))
	s.api("GET "+one+"/steps", access.Pipeline, s.ofPipeline(s.listSteps))
	s.api("GET "+one+"/steps/{step}", access.Pipeline, s.ofStep(func(_ *call, st *pipelines.Step) answer {
		return jsonAnswer(http.StatusOK, st.Body(s.options.StepStages))
	}))
	s.api("GET "+one+"/steps/{step}/log", access.Pipeline, s.ofStep(getLog))
	s.api("POST "+one+"/stopPipeline", access.PipelineWrite, s.ofPipeline(s.stopPipeline))
}

// ofPipeline passes the pipeline in the call's path, by UUID or build number.
func (s *Server) ofPipeline(serve func(*call, *pipelines.Pipeline) answer) handler {
	return func(c *call) answer {
		repo, refusal, ok := s.repositoryOf(c)
		if !ok {
			return refusal
		}
		given := c.PathValue("uuid")
		i := slices.IndexFunc(s.pipelines, func(p *pipelines.Pipeline) bool {
			return p.Repository == repo && (strings.EqualFold(p.UUID, given) || strconv.Itoa(p.Number) == given)
		})
		if i < 0 {
			return failure(http.StatusNotFound, fmt.Sprintf("Pipeline %s not found", given))
		}
		return serve(c, s.pipelines[i])
	}
}

// ofStep passes the step in the call's path.
func (s *Server) ofStep(serve func(*call, *pipelines.Step) answer) handler {
	return s.ofPipeline(func(c *call, p *pipelines.Pipeline) answer {
		i := slices.IndexFunc(p.Steps, func(st *pipelines.Step) bool { return strings.EqualFold(st.UUID, c.PathValue("step")) })
		if i < 0 || p.Parsing {
			return failure(http.StatusNotFound, fmt.Sprintf("Step %s not found", c.PathValue("step")))
		}
		return serve(c, p.Steps[i])
	})
}

// listPipelines lists pipelines without a next link, as Bitbucket does. Clients count
// pages. Without sort, the oldest come first.
func (s *Server) listPipelines(c *call) answer {
	repo, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	asked, err := paging.Of(c.URL, c.base)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	query := c.URL.Query()
	var found []*pipelines.Pipeline
	for _, p := range s.pipelines {
		if p.Repository == repo && p.In(query) && !c.fault.EmptyList {
			found = append(found, p)
		}
	}
	if sort := query.Get("sort"); sort == "-created_on" || sort == "-run_creation_date" {
		slices.Reverse(found)
	}
	page := paging.Cut(asked, found)
	page.Next, page.Previous = "", ""
	return jsonAnswer(http.StatusOK, paging.Map(page, func(p *pipelines.Pipeline) pipelines.Body { return p.Body(c.site(), Username) }))
}

// listSteps lists all steps on one page, whatever the call asks for, as Bitbucket does.
func (s *Server) listSteps(c *call, p *pipelines.Pipeline) answer {
	asked, err := paging.Of(c.URL, c.base)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	bodies := []pipelines.StepBody{}
	for _, st := range p.Steps {
		if !p.Parsing {
			bodies = append(bodies, st.Body(s.options.StepStages))
		}
	}
	return jsonAnswer(http.StatusOK, paging.Page[pipelines.StepBody]{Page: asked.Number, Values: bodies, Size: len(bodies), PageLen: asked.Length})
}

// getLog returns the log of a step that has started.
func getLog(_ *call, st *pipelines.Step) answer {
	if st.StartedOn.IsZero() {
		return failure(http.StatusNotFound, "The log of this step is not available.")
	}
	return answer{status: http.StatusOK, kind: "application/octet-stream", body: st.Log()}
}

// stopPipeline cancels the open steps of a pipeline. A runner learns of it when it reports
// the step's end.
func (s *Server) stopPipeline(c *call, p *pipelines.Pipeline) answer {
	if p.Ended() {
		return failure(http.StatusBadRequest, "The pipeline has already completed.")
	}
	for _, st := range p.Steps {
		if st.Ended() {
			continue
		}
		if r := s.runners[st.Runner]; r != nil && r.running == st {
			s.free(r, c.now)
		}
	}
	open := slices.DeleteFunc(slices.Clone(p.Steps), (*pipelines.Step).Ended)
	p.Stop(c.now)
	for _, st := range open {
		s.stepEnded(st, c.now)
	}
	s.completed(p, c.now)
	s.dispatch(c.now)
	return noContent()
}

// stopByUUID is the control that stops a pipeline of any repository.
func (s *Server) stopByUUID(c *call) answer {
	i := slices.IndexFunc(s.pipelines, func(p *pipelines.Pipeline) bool { return p.UUID == c.PathValue("uuid") })
	if i < 0 {
		return failure(http.StatusNotFound, fmt.Sprintf("Pipeline %s not found", c.PathValue("uuid")))
	}
	if s.pipelines[i].Ended() {
		return noContent()
	}
	return s.stopPipeline(c, s.pipelines[i])
}

// startStep is the control that starts a paused step, as a user does. Bitbucket has no
// public route for it.
func (s *Server) startStep(c *call) answer {
	for _, p := range s.pipelines {
		for _, st := range p.Steps {
			if st.UUID != c.PathValue("uuid") {
				continue
			}
			if err := st.Start(c.now); err != nil {
				return failure(http.StatusConflict, err.Error())
			}
			s.enter(st, c.now)
			s.dispatch(c.now)
			return noContent()
		}
	}
	return failure(http.StatusNotFound, fmt.Sprintf("Step %s not found", c.PathValue("uuid")))
}

// queued returns the definition of parallel steps.
func queued(labels []string, duration time.Duration, count int) definition.Pipeline {
	group := make([]definition.Step, 0, count)
	for n := range count {
		group = append(group, definition.Step{
			Name: fmt.Sprintf("Step %d", n+1), Labels: slices.Clone(labels),
			Script: []string{fmt.Sprintf("sleep %g", duration.Seconds())}, Duration: duration,
		})
	}
	return definition.Pipeline{Selector: definition.Selector{Type: definition.SelectDefault}, Groups: [][]definition.Step{group}}
}
