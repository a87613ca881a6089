package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/plan"
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
		p := s.pipelines.Find(repo, c.PathValue("uuid"))
		if p == nil {
			return noPipeline(c)
		}
		return serve(c, p)
	}
}

func noPipeline(c *call) answer {
	return failure(http.StatusNotFound, fmt.Sprintf("Pipeline %s not found", c.PathValue("uuid")))
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
	for _, p := range s.pipelines.All {
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
	s.pipelines.Stop(p, c.now)
	s.dispatch(c.now)
	return noContent()
}

// changePipeline is the control that stops a pipeline of any repository, or runs it again.
func (s *Server) changePipeline(c *call) answer {
	p := s.pipelines.Find(nil, c.PathValue("uuid"))
	if p == nil {
		return noPipeline(c)
	}
	switch action := c.PathValue("action"); {
	case action == "stop" && p.Ended():
		return noContent()
	case action == "stop":
		return s.stopPipeline(c, p)
	case action != "rerun":
		return failure(http.StatusNotFound, fmt.Sprintf("Action %q: want stop or rerun", action))
	}
	var given RerunRequest
	if len(c.body) > 0 {
		if refusal, ok := decodeStrict(c.body, &given); !ok {
			return refusal
		}
	}
	if err := s.pipelines.Rerun(p, given.All, c.now); err != nil {
		return failure(http.StatusConflict, err.Error())
	}
	s.dispatch(c.now)
	return noContent()
}

// startStep is the control that starts a paused step or stage, as a user does. Bitbucket has no
// public route for it.
func (s *Server) startStep(c *call) answer {
	st := s.pipelines.Step(c.PathValue("uuid"))
	if st == nil {
		return failure(http.StatusNotFound, fmt.Sprintf("Step %s not found", c.PathValue("uuid")))
	}
	if err := s.pipelines.StartStep(st, c.now); err != nil {
		return failure(http.StatusConflict, err.Error())
	}
	s.dispatch(c.now)
	return noContent()
}

// planSteps is the control that replaces the plan of how steps go.
func (s *Server) planSteps(c *call) answer {
	var given StepPlan
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	rules, err := plan.New(given)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	s.pipelines.Plan = rules
	return noContent()
}
