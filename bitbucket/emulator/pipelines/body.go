package pipelines

import (
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

type (
	// Body is a pipeline in the API.
	Body struct {
		Type        string              `json:"type"`
		UUID        string              `json:"uuid"`
		BuildNumber int                 `json:"build_number"`
		RunNumber   int                 `json:"run_number"`
		State       State               `json:"state"`
		Target      TargetBody          `json:"target"`
		Trigger     Typed               `json:"trigger"`
		Creator     resource.User       `json:"creator"`
		Repository  resource.Repository `json:"repository"`
		CreatedOn   time.Time           `json:"created_on"`
		CompletedOn time.Time           `json:"completed_on,omitzero"`
		Duration    int                 `json:"duration_in_seconds"`
		BuildTime   int                 `json:"build_seconds_used"`
		Links       resource.Links      `json:"links"`
	}
	// TargetBody is the target of a pipeline. Its fields depend on its type.
	TargetBody struct {
		Type        string               `json:"type"`
		RefType     string               `json:"ref_type,omitempty"`
		RefName     string               `json:"ref_name,omitempty"`
		Source      string               `json:"source,omitempty"`
		Destination string               `json:"destination,omitempty"`
		PullRequest *PullRequestBody     `json:"pullrequest,omitempty"`
		Commit      resource.Commit      `json:"commit"`
		Selector    *definition.Selector `json:"selector"`
	}
	// PullRequestBody is the pull request of a target.
	PullRequestBody struct {
		Type  string         `json:"type"`
		ID    int            `json:"id"`
		Title string         `json:"title"`
		Links resource.Links `json:"links"`
	}
	// StepBody is a step in the API. It has neither runner nor labels nor group.
	StepBody struct {
		Type        string    `json:"type"`
		UUID        string    `json:"uuid"`
		Name        string    `json:"name,omitempty"`
		State       State     `json:"state"`
		Trigger     TypeOnly  `json:"trigger"`
		Pipeline    Reference `json:"pipeline"`
		RunNumber   int       `json:"run_number"`
		Image       Image     `json:"image"`
		MaxTime     int       `json:"maxTime"`
		Setup       []Command `json:"setup_commands"`
		Script      []Command `json:"script_commands"`
		StartedOn   time.Time `json:"started_on,omitzero"`
		CompletedOn time.Time `json:"completed_on,omitzero"`
		Duration    int       `json:"duration_in_seconds,omitempty"`
		BuildTime   int       `json:"build_seconds_used"`
	}
	// TypeOnly is an object of which only the type matters.
	TypeOnly struct {
		Type string `json:"type"`
	}
	// Reference refers to an object.
	Reference struct {
		Type string `json:"type"`
		UUID string `json:"uuid"`
	}
	// Image is the image of a step.
	Image struct {
		Name string `json:"name"`
	}
	// Command is a command of a step.
	Command struct {
		Name    string `json:"name"`
		Command string `json:"command"`
	}
)

const maxMinutes = 120

// Body returns the pipeline's JSON.
func (p *Pipeline) Body(site resource.Site, creator string) Body {
	n := p.Repository.Names()
	b := Body{
		Type: "pipeline", UUID: p.UUID, BuildNumber: p.Number, RunNumber: max(1, p.Run), State: p.State(), Target: p.target(site),
		Trigger: Typed{"pipeline_trigger_push", p.Trigger}, Creator: site.User(creator), Repository: site.Repository(n),
		CreatedOn: p.CreatedOn.UTC(),
		Links: resource.Links{
			"self":  site.API("repositories", n.Workspace, n.Slug, "pipelines", p.UUID),
			"steps": site.API("repositories", n.Workspace, n.Slug, "pipelines", p.UUID, "steps"),
			"html":  site.Page(p.Page()...),
		},
	}
	switch p.Trigger {
	case TriggerManual:
		b.Trigger.Type = "pipeline_trigger_manual"
	case TriggerParent:
		b.Trigger.Type = "pipeline_trigger_parent_step"
	}
	for _, st := range p.Steps {
		b.BuildTime += st.seconds()
	}
	if p.Ended() {
		b.CompletedOn = p.CompletedOn.UTC()
		b.Duration = int(p.CompletedOn.Sub(p.CreatedOn).Seconds())
	}
	return b
}

func (p *Pipeline) target(site resource.Site) TargetBody {
	n, t := p.Repository.Names(), p.Target
	b := TargetBody{Type: t.Kind, RefType: t.RefType, RefName: t.RefName, Commit: site.Commit(n, t.Commit)}
	if !p.Parsing {
		b.Selector = &definition.Selector{Type: t.Selector.Type, Pattern: t.Selector.Pattern}
	}
	if t.Kind == PullRequestTarget {
		b.Source, b.Destination = t.Source, t.Destination
		b.PullRequest = &PullRequestBody{Type: "pullrequest", ID: t.PullRequest, Title: t.Source, Links: resource.Links{}}
	}
	return b
}

// seconds returns how long the step has run, if it has ended.
func (st *Step) seconds() int {
	if st.StartedOn.IsZero() || st.CompletedOn.IsZero() {
		return 0
	}
	return int(st.CompletedOn.Sub(st.StartedOn).Seconds())
}

// Title is the name that Bitbucket shows. It may be empty.
func (st *Step) Title() string {
	if st.Final {
		return strings.TrimSpace("[Final Step] " + st.Name)
	}
	return st.Name
}

// byHand reports whether a user starts the step, or the stage that it begins.
func (st *Step) byHand() bool {
	return st.Manual || slices.ContainsFunc(st.Groups, func(i int) bool {
		g := st.Pipeline.groups[i]
		return g.Manual && slices.Contains(g.First, st.index)
	})
}

// Body returns the step's JSON.
func (st *Step) Body(stages StepStages) StepBody {
	b := StepBody{
		Type: "pipeline_step", UUID: st.UUID, Name: st.Title(), State: st.State(stages),
		Trigger: TypeOnly{"pipeline_step_trigger_automatic"}, Pipeline: Reference{"pipeline", st.Pipeline.UUID}, RunNumber: st.Run,
		Image: Image{"atlassian/default-image:4"}, MaxTime: maxMinutes, Setup: []Command{}, Script: []Command{},
		Duration: st.seconds(), BuildTime: st.seconds(),
	}
	if st.byHand() {
		b.Trigger.Type = "pipeline_step_trigger_manual"
	}
	for _, line := range st.Script {
		b.Script = append(b.Script, Command{line, line})
	}
	if !st.StartedOn.IsZero() {
		b.StartedOn = st.StartedOn.UTC()
	}
	if !st.CompletedOn.IsZero() {
		b.CompletedOn = st.CompletedOn.UTC()
	}
	return b
}
