// Package pipelines is the life of pipelines and steps at Bitbucket: in which order steps
// are reached, which states the API shows, and the JSON of both. It assigns no step to a
// runner and has no lock: its caller decides when something happens, and at what time.
package pipelines

import (
	"fmt"
	"slices"
	"strings"
	"time"

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
	// NotRun means that an earlier step failed.
	NotRun = "not run"
)

// CauseStopped is the cause of steps that were stopped with their pipeline.
const CauseStopped = "stopped"

// Repository is the repository of a pipeline. Its names may change.
type Repository interface {
	Names() resource.Names
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
)

// Pipeline is a pipeline of a repository.
type Pipeline struct {
	UUID       string
	Number     int
	Repository Repository
	Target     Target
	Trigger    string
	CreatedOn  time.Time
	// Steps are in pipeline order.
	Steps []*Step
	// Parsing means that Bitbucket has not read the file yet: neither selector nor steps
	// are known.
	Parsing bool
	// Fault says why the file cannot be run. Such a pipeline has no steps.
	Fault string
	// CompletedOn is zero until all steps have ended.
	CompletedOn time.Time
	stopped     bool
}

// Step is a step of a pipeline.
type Step struct {
	UUID     string
	Pipeline *Pipeline
	definition.Step
	// group numbers the steps that run side by side.
	group                            int
	QueuedOn, StartedOn, CompletedOn time.Time
	// Runner is the UUID of the runner to which it was assigned.
	Runner         string
	Outcome, Cause string
}

// Hosted reports whether the step runs on Bitbucket's own runners.
func (st *Step) Hosted() bool { return len(st.Labels) == 0 }

// Ended reports whether the step has ended or will never run.
func (st *Step) Ended() bool {
	return st.Outcome == Passed || st.Outcome == Failed || st.Outcome == NotRun
}

// Ended reports whether the pipeline is completed.
func (p *Pipeline) Ended() bool { return !p.CompletedOn.IsZero() }

// Define gives the pipeline its steps.
func (p *Pipeline) Define(d definition.Pipeline, newUUID func() string) {
	p.Target.Selector = d.Selector
	for n, group := range d.Groups {
		for _, st := range group {
			p.Steps = append(p.Steps, &Step{UUID: newUUID(), Pipeline: p, Step: st, group: n, Outcome: Waiting})
		}
	}
}

// Proceed marks the steps that are reached now as queued, and returns them. It pauses at
// manual steps. If a step has failed, what follows is not run.
func (p *Pipeline) Proceed(now time.Time) []*Step {
	var reached []*Step
	group := -1
	for _, st := range p.Steps {
		switch {
		case group >= 0 && st.group > group:
			p.complete(now)
			return reached
		case (st.Outcome == Waiting || st.Outcome == Paused) && p.count(Failed) > 0:
			st.Outcome = NotRun
		case st.Outcome == Waiting && st.Manual:
			st.Outcome, group = Paused, st.group
		case st.Outcome == Waiting:
			st.Outcome, st.QueuedOn, group = Queued, now, st.group
			reached = append(reached, st)
		case !st.Ended():
			group = st.group
		}
	}
	p.complete(now)
	return reached
}

// Start queues a paused step, as a user does.
func (st *Step) Start(now time.Time) error {
	if st.Outcome != Paused {
		return fmt.Errorf("step %s is %s, not paused", st.UUID, st.Outcome)
	}
	st.Outcome, st.QueuedOn = Queued, now
	return nil
}

// End ends a step.
func (st *Step) End(outcome, cause string, now time.Time) {
	st.Outcome, st.Cause, st.CompletedOn = outcome, cause, now
}

// Stop ends all steps that have not ended. The caller has taken them from their runners.
func (p *Pipeline) Stop(now time.Time) {
	p.stopped, p.Parsing = true, false
	for _, st := range p.Steps {
		if !st.Ended() {
			st.End(Failed, CauseStopped, now)
		}
	}
	p.complete(now)
}

// complete records the time at which the last step ended.
func (p *Pipeline) complete(now time.Time) {
	if p.CompletedOn.IsZero() && !p.Parsing && !slices.ContainsFunc(p.Steps, func(st *Step) bool { return !st.Ended() }) {
		p.CompletedOn = now
	}
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

// File returns a bitbucket-pipelines.yml that defines the pipeline's steps. Labels are
// quoted, because YAML reads a plain 1.0 as a number.
func (p *Pipeline) File() []byte {
	var b strings.Builder
	b.WriteString("pipelines:\n  default:\n    - parallel:\n")
	for _, st := range p.Steps {
		fmt.Fprintf(&b, "        - step:\n            name: %s\n            runs-on:\n", st.Name)
		for _, l := range st.Labels {
			fmt.Fprintf(&b, "              - %q\n", l)
		}
		fmt.Fprintf(&b, "            script:\n              - sleep %g\n", st.Duration.Seconds())
	}
	return []byte(b.String())
}

// Log returns what the step has written up to now.
func (st *Step) Log() []byte {
	var b strings.Builder
	b.WriteString("Runner matching labels:\n")
	for _, l := range st.Labels {
		fmt.Fprintf(&b, "    - %s\n", l)
	}
	for _, line := range st.Script {
		fmt.Fprintf(&b, "+ %s\n", line)
	}
	if st.Ended() {
		fmt.Fprintf(&b, "Build %s\n", st.Outcome)
	}
	return []byte(b.String())
}
