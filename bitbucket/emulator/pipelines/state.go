package pipelines

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// State is the state of a pipeline or a step in the API.
type State struct {
	Type   string  `json:"type"`
	Name   string  `json:"name"`
	Stage  *Typed  `json:"stage,omitempty"`
	Result *Result `json:"result,omitempty"`
}

// Typed is an object with a name.
type Typed struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

// Result is the result of a completed pipeline or step.
type Result struct {
	Typed
	Error *Fault `json:"error,omitempty"`
}

// Fault is why a pipeline is in error.
type Fault struct {
	Type    string `json:"type"`
	Key     string `json:"key"`
	Message string `json:"message"`
}

// StepStages says which stage the API shows for steps that are PENDING. Bitbucket was seen
// with and without, so that no client can rely on it.
type StepStages string

// The values of StepStages. An open manual gate is PAUSED
// and a step without its lock HALTED in all of them.
const (
	// StagesNone shows no stage.
	StagesNone StepStages = "none"
	// StagesReached shows PENDING for steps that wait for a runner.
	StagesReached StepStages = "reached"
	// StagesAll shows PENDING for all steps.
	StagesAll StepStages = "all"
)

func staged(kind, state, stage string) State {
	return State{
		Type: kind + "_state_" + strings.ToLower(state), Name: state,
		Stage: &Typed{kind + "_state_" + strings.ToLower(state) + "_" + strings.ToLower(stage), stage},
	}
}

func completed(kind, result string) State {
	return State{
		Type: kind + "_state_completed", Name: "COMPLETED",
		Result: &Result{Typed: Typed{kind + "_state_completed_" + strings.ToLower(result), result}},
	}
}

// State returns the pipeline's state.
func (p *Pipeline) State() State {
	const kind = "pipeline"
	switch {
	case p.Parsing:
		return State{Type: kind + "_state_parsing", Name: "PARSING"}
	case p.Fault != "":
		state := completed(kind, "ERROR")
		state.Result.Error = &Fault{Type: "pipeline_error", Key: "plan-service.parse.bad-config", Message: p.Fault}
		return state
	case p.Ended() && p.stopped:
		return completed(kind, "STOPPED")
	case p.Ended() && p.failed():
		return completed(kind, "FAILED")
	case p.Ended():
		return completed(kind, "SUCCESSFUL")
	case p.count(Running) > 0:
		return staged(kind, "IN_PROGRESS", "RUNNING")
	case p.count(Queued) > 0 && p.count(Queued)+p.count(Waiting) == len(p.Steps):
		return State{Type: kind + "_state_pending", Name: "PENDING"}
	case p.count(Queued) > 0:
		return staged(kind, "IN_PROGRESS", "PENDING")
	case p.count(Halted) > 0:
		return staged(kind, "IN_PROGRESS", "HALTED")
	}
	return staged(kind, "IN_PROGRESS", "PAUSED")
}

// status returns the pipeline's value in the enum of the filter `status`, which is not the
// name of the state.
func (p *Pipeline) status() string {
	state := p.State()
	switch {
	case state.Result != nil && state.Result.Name == "SUCCESSFUL":
		return "PASSED"
	case state.Result != nil:
		return state.Result.Name
	case state.Name != "IN_PROGRESS":
		return state.Name
	case state.Stage.Name == "PAUSED" || state.Stage.Name == "HALTED":
		return state.Stage.Name
	}
	return "BUILDING"
}

// State returns the step's state.
func (st *Step) State(stages StepStages) State {
	const kind = "pipeline_step"
	switch st.Outcome {
	case Paused:
		return staged(kind, "PENDING", "PAUSED")
	case Halted:
		return staged(kind, "PENDING", "HALTED")
	case Queued, Waiting:
		if stages == StagesAll || stages == StagesReached && st.Outcome == Queued {
			return staged(kind, "PENDING", "PENDING")
		}
		return State{Type: kind + "_state_pending", Name: "PENDING"}
	case Running:
		return staged(kind, "IN_PROGRESS", "RUNNING")
	case Passed:
		return completed(kind, "SUCCESSFUL")
	case NotRun, Skipped:
		return completed(kind, "NOT_RUN")
	case Broken:
		return completed(kind, "ERROR")
	}
	if st.Cause == CauseStopped {
		return completed(kind, "STOPPED")
	}
	return completed(kind, "FAILED")
}

// In reports whether the filters of a list match the pipeline. Filters that Bitbucket does
// not know, and `q`, are ignored. A value that it does not know matches nothing.
func (p *Pipeline) In(query url.Values) bool {
	t := p.Target
	selector, branch := strings.ToUpper(t.Selector.Type), ""
	if p.Parsing {
		selector = ""
	}
	if t.RefType == "branch" || t.RefType == "named_branch" {
		branch = t.RefName
	}
	for name, value := range map[string]string{
		"status": p.status(), "target.branch": branch, "target.selector.type": selector,
		"target.commit.hash": t.Commit, "trigger_type": p.Trigger,
		"target.ref_name": t.RefName, "target.ref_type": strings.ToUpper(t.RefType), "target.selector.pattern": t.Selector.Pattern,
	} {
		if wanted := query[name]; len(wanted) > 0 && !slices.Contains(wanted, value) {
			return false
		}
	}
	return true
}

// Page is the end of the address of the pipeline's page.
func (p *Pipeline) Page() []string {
	n := p.Repository.Names()
	return []string{n.Workspace, n.Slug, "pipelines", "results", fmt.Sprint(p.Number)}
}
