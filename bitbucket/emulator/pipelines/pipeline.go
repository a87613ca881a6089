// Package pipelines is the life of pipelines and steps at Bitbucket: in which order steps
// are reached, what holds them back, which states the API shows, and the JSON of both. It
// assigns no step to a runner and has no lock: its caller decides when something happens, and
// at what time.
package pipelines

import (
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/condition"
	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// The outcomes of a step.
const (
	// Waiting means that an earlier step has not ended.
	Waiting = "waiting"
	// Paused means that it was reached and waits for a user to start it.
	Paused = "paused"
	// Halted means that it was reached and another step has its lock.
	Halted = "halted"
	// Queued means that it waits for a runner.
	Queued  = "queued"
	Running = "running"
	Passed  = "passed"
	Failed  = "failed"
	// Broken means that it ended with an error, which is neither retried nor ignored.
	Broken = "error"
	// NotRun means that an earlier step failed.
	NotRun = "not run"
	// Skipped means that its condition did not hold.
	Skipped = "skipped"
)

// The causes of failures that are not those of runners.
const (
	// CauseStopped is that of steps that were stopped with their pipeline, or with the parallel
	// group in which a step failed.
	CauseStopped = "stopped"
	// CauseNoRunner means that no runner with all its labels was ONLINE when it was queued.
	CauseNoRunner = "no runner"
	// CauseNoChild means that a step could not start its pipeline.
	CauseNoChild = "no child pipeline"
	// CauseStepFailed means that the step itself failed.
	CauseStepFailed = "step failed"
)

// Repository is the repository of a pipeline.
type Repository interface {
	// Names returns its names, which may change.
	Names() resource.Names
	// NextBuild returns the next build number.
	NextBuild() int
}

// The kinds of targets.
const (
	RefTarget         = "pipeline_ref_target"
	CommitTarget      = "pipeline_commit_target"
	PullRequestTarget = "pipeline_pullrequest_target"
)

// Target is what a pipeline runs on.
type Target struct {
	// Kind is one of the three kinds.
	Kind             string
	RefType, RefName string
	// Commit is a full hash.
	Commit string
	// The branches of a pull request.
	Source, Destination string
	PullRequest         int
	Selector            definition.Selector
}

// The triggers of a pipeline.
const (
	TriggerPush   = "PUSH"
	TriggerManual = "MANUAL"
	// TriggerParent is that of a child pipeline. Bitbucket's own name is not known.
	TriggerParent = "PARENT_STEP"
)

// Pipeline is a pipeline of a repository.
type Pipeline struct {
	UUID       string
	Number     int
	Repository Repository
	Target     Target
	Trigger    string
	CreatedOn  time.Time
	// Run counts the runs, from 1.
	Run int
	// Parent is the step that started it, nil for none.
	Parent *Step
	// Variables decide about conditions, and so does Changes: the files that its commit
	// changed, nil if that is not known.
	Variables map[string]string
	Changes   []string
	// Steps are in pipeline order. Earlier are those of earlier runs that a later run
	// replaced.
	Steps, Earlier []*Step
	// File is the file that defines it, nil if it has none.
	File *definition.File
	// Parsing means that Bitbucket has not read the file yet: neither selector nor steps
	// are known.
	Parsing bool
	// Fault says why the file cannot be run. Such a pipeline has no steps.
	Fault string
	// CompletedOn is zero until all steps have ended.
	CompletedOn time.Time
	stopped     bool
	groups      []group
}

// group is a stage or a parallel group, and how far it has come.
type group struct {
	definition.Group
	// judged means that its condition holds, and opened that a user has started it.
	judged, opened bool
}

// Step is a step of a pipeline.
type Step struct {
	UUID     string
	Pipeline *Pipeline
	definition.Step
	// Run is the run of the pipeline in which it runs.
	Run                              int
	QueuedOn, StartedOn, CompletedOn time.Time
	// Runner is the UUID of the runner to which it was assigned.
	Runner         string
	Outcome, Cause string
	// Retries is how often it was run again.
	Retries int
	// Duration and Result are how it goes once it runs.
	Duration time.Duration
	Result   string
	index    int
	// gate is the stage for which it is paused, or -1.
	gate int
}

// Hosted reports whether the step runs on Bitbucket's own runners.
func (st *Step) Hosted() bool { return len(st.Labels) == 0 && st.Child == "" }

// Ended reports whether the step has ended or will never run.
func (st *Step) Ended() bool {
	switch st.Outcome {
	case Passed, Failed, Broken, NotRun, Skipped:
		return true
	}
	return false
}

// fine reports whether the step ended in a way that lets the next one go on.
func (st *Step) fine() bool {
	return st.Outcome == Passed || st.Outcome == Skipped || st.Outcome == Failed && st.Failure.Ignore && st.Cause != CauseStopped
}

// Ended reports whether the pipeline is completed.
func (p *Pipeline) Ended() bool { return !p.CompletedOn.IsZero() }

// Define gives the pipeline its steps.
func (p *Pipeline) Define(d definition.Pipeline, newUUID func() string) {
	p.Target.Selector, p.Run = d.Selector, 1
	for _, g := range d.Groups {
		p.groups = append(p.groups, group{Group: g})
	}
	for i, st := range d.Steps {
		p.Steps = append(p.Steps, &Step{UUID: newUUID(), Pipeline: p, Step: st, Duration: st.Duration, Run: 1, Outcome: Waiting, index: i, gate: -1})
	}
}

// Holds reports whether a condition holds as far as the pipeline's variables and the changes of
// its commit say so. If they say nothing, it does.
func (p *Pipeline) Holds(c definition.Condition) bool {
	changed := func(file string) bool {
		matches := func(pattern string) bool { return condition.Match(pattern, file) }
		return (len(c.Include) == 0 || slices.ContainsFunc(c.Include, matches)) && !slices.ContainsFunc(c.Exclude, matches)
	}
	if c.Changes && p.Changes != nil && !slices.ContainsFunc(p.Changes, changed) {
		return false
	}
	if c.State == "" {
		return true
	}
	holds, err := condition.Evaluate(c.State, p.Variables)
	return holds || err != nil
}

// count returns how many of the pipeline's steps have an outcome.
func (p *Pipeline) count(outcome string) int {
	n := 0
	for _, st := range p.Steps {
		if st.Outcome == outcome {
			n++
		}
	}
	return n
}

// failed reports whether a step ended in a way that ends the pipeline.
func (p *Pipeline) failed() bool {
	return slices.ContainsFunc(p.Steps, func(st *Step) bool { return st.Ended() && !st.fine() })
}
