package pipelines

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/plan"
)

// Runners are the self-hosted runners of all repositories.
type Runners interface {
	// Wait lets a step wait for a runner. It returns false if no runner could take it.
	Wait(st *Step) bool
	// Free takes a step from its runner, if it has one.
	Free(st *Step, now time.Time)
}

// Observer receives what Bitbucket reports by webhooks.
type Observer interface {
	// Started is called for each run of a pipeline.
	Started(p *Pipeline, now time.Time)
	StepEnded(st *Step)
	// Completed also says which older pipelines are forgotten.
	Completed(p *Pipeline, forgotten []*Pipeline, now time.Time)
}

// Engine runs the pipelines of all repositories, apart from the self-hosted runners.
type Engine struct {
	Board
	// Plan says how steps go.
	Plan plan.Rules

	runners  Runners
	observer Observer
	newUUID  func() string
	limits   Limits
	hosted   []*Step     // steps on Bitbucket's own runners
	parsing  []*Pipeline // those whose file is not read yet
}

// Limits are what an Engine keeps to.
type Limits struct {
	// ParseLag is how long a new pipeline is PARSING.
	ParseLag time.Duration
	// Open bounds the open steps, and Keep the ended ones that are kept.
	Open, Keep int
}

// NewEngine returns an engine without pipelines.
func NewEngine(runners Runners, observer Observer, newUUID func() string, limits Limits) *Engine {
	return &Engine{runners: runners, observer: observer, newUUID: newUUID, limits: limits}
}

// HasRoom reports whether so many more steps may be open.
func (e *Engine) HasRoom(steps int) bool { return e.open()+steps <= e.limits.Open }

// Start starts a pipeline, whose steps are reached once it is parsed. An order with a fault makes
// a pipeline in error. The error is definition.ErrNoPipeline if the file defines none.
func (e *Engine) Start(order Order, now time.Time) (*Pipeline, error) {
	read, fault := order.Definition, order.Fault
	if order.File != nil && fault == nil {
		if read, fault = order.File.Pipeline(order.Wanted); errors.Is(fault, definition.ErrNoPipeline) {
			return nil, fault
		}
	}
	if !e.HasRoom(max(1, len(read.Steps))) {
		return nil, fmt.Errorf("more than %d steps are open", e.limits.Open)
	}
	p := &Pipeline{
		UUID: e.newUUID(), Number: order.Repository.NextBuild(), Repository: order.Repository, Target: order.Target, Trigger: order.Trigger,
		CreatedOn: now, Run: 1, Parent: order.Parent, File: order.File, Changes: order.Changes, Variables: order.Target.Variables(),
	}
	maps.Copy(p.Variables, read.Variables)
	maps.Copy(p.Variables, order.Variables)
	p.Variables["BITBUCKET_BUILD_NUMBER"] = strconv.Itoa(p.Number)
	if fault != nil {
		p.Fault = fault.Error()
	} else {
		p.Define(read, e.newUUID)
	}
	e.All = append(e.All, p)
	e.observer.Started(p, now)
	if p.Parsing = order.File != nil || fault != nil; p.Parsing {
		e.parsing = append(e.parsing, p)
		e.Advance(now) // without a lag it is parsed at once
	} else {
		e.proceed(p, now)
	}
	return p, nil
}

// Advance reads the files of new pipelines, and ends the steps of Bitbucket's own runners, as far
// as they are due.
func (e *Engine) Advance(now time.Time) {
	var parsed []*Pipeline
	e.parsing = slices.DeleteFunc(e.parsing, func(p *Pipeline) bool {
		due := p.Ended() || !now.Before(p.CreatedOn.Add(e.limits.ParseLag))
		if due && !p.Ended() {
			parsed = append(parsed, p)
		}
		return due
	})
	for _, p := range parsed {
		p.Parsing = false
		e.proceed(p, now)
	}
	for {
		i := slices.IndexFunc(e.hosted, func(st *Step) bool { return st.Outcome != Running || !now.Before(st.StartedOn.Add(st.Duration)) })
		if i < 0 {
			return
		}
		st := e.hosted[i]
		e.hosted = slices.Delete(e.hosted, i, i+1)
		if st.Outcome == Running {
			e.Conclude(st, st.Result, st.StartedOn.Add(st.Duration))
		}
	}
}

// proceed queues the steps of a pipeline that are reached now, and those of its repository that
// no lock holds back any more.
func (e *Engine) proceed(p *Pipeline, now time.Time) {
	ended := p.Ended()
	reached := p.Proceed(now, e.holds)
	if p.Ended() && !ended {
		e.completed(p, now)
	}
	e.enterAll(reached, now)
	for st := e.freed(p.Repository); st != nil; st = e.freed(p.Repository) {
		st.Outcome, st.QueuedOn = Queued, now
		e.enter(st, now)
	}
}

func (e *Engine) enterAll(reached []*Step, now time.Time) {
	for _, st := range reached {
		if st.Outcome == Queued { // one before it may have stopped it
			e.enter(st, now)
		}
	}
}

// enter lets a step that is queued wait for its lock or a runner, run, or fail. A step without a
// matching online runner fails at once. A step of Bitbucket's own runners runs at once.
func (e *Engine) enter(st *Step, now time.Time) {
	switch {
	case e.locked(st):
		st.Outcome = Halted
	case st.Child != "":
		e.startChild(st, now)
	case st.Hosted():
		e.Begin(st, now)
		e.hosted = append(e.hosted, st)
	case !e.runners.Wait(st):
		e.End(st, Failed, CauseNoRunner, now)
	}
}

// startChild starts the pipeline of a step of the type pipeline. A child cannot have children.
func (e *Engine) startChild(st *Step, now time.Time) {
	st.Outcome, st.StartedOn = Running, now
	parent := st.Pipeline
	err := errors.New("the child of a child")
	if parent.Parent == nil && parent.File != nil {
		_, err = e.Start(Order{
			Repository: parent.Repository, Target: parent.Target, Trigger: TriggerParent, Parent: st, File: parent.File, Changes: parent.Changes,
			Wanted: definition.Wanted{Selector: definition.Selector{Type: definition.SelectCustom, Pattern: st.Child}},
		}, now)
	}
	if err != nil {
		e.End(st, Broken, CauseNoChild, now)
	}
}

// holds decides about a condition: the plan does, or else what is known of the pipeline.
func (e *Engine) holds(p *Pipeline, name string, c definition.Condition) bool {
	if holds, given := e.Plan.Condition(p.Repository.Names().FullName(), name); given {
		return holds
	}
	return p.Holds(c)
}

// Begin lets a step run, and decides how it goes.
func (e *Engine) Begin(st *Step, now time.Time) {
	repository := st.Pipeline.Repository.Names().FullName()
	st.Outcome, st.StartedOn = Running, now
	st.Duration = e.Plan.Duration(repository, st.Title(), st.Step.Duration, st.Sleeps)
	st.Result = e.Plan.Result(repository, st.Title())
}

// Conclude ends a step with a result.
func (e *Engine) Conclude(st *Step, result string, now time.Time) {
	switch result {
	case plan.Failed:
		e.End(st, Failed, CauseStepFailed, now)
	case plan.Error:
		e.End(st, Broken, CauseStepFailed, now)
	default:
		e.End(st, Passed, "", now)
	}
}

// End ends a step that no runner has any more, and goes on with its pipeline. A step with retries
// left waits again.
func (e *Engine) End(st *Step, outcome, cause string, now time.Time) {
	st.End(outcome, cause, now)
	e.observer.StepEnded(st)
	if st.Retry(now) {
		e.enter(st, now)
		return
	}
	e.cancel(st.StopOthers(now), now)
	e.proceed(st.Pipeline, now)
}

// cancel takes steps that were stopped from their runners, and stops the pipelines that they have
// started.
func (e *Engine) cancel(stopped []*Step, now time.Time) {
	for _, st := range stopped {
		e.runners.Free(st, now)
		e.observer.StepEnded(st)
		for _, child := range e.children(st) {
			e.Stop(child, now)
		}
	}
}

// Stop stops a pipeline, which runs its final step.
func (e *Engine) Stop(p *Pipeline, now time.Time) {
	e.cancel(p.Stop(now), now)
	e.proceed(p, now)
}

// StartStep starts a paused step or stage, as a user does.
func (e *Engine) StartStep(st *Step, now time.Time) error {
	started, err := st.Start(now, e.holds)
	if err != nil {
		return err
	}
	e.enterAll(started, now)
	e.proceed(st.Pipeline, now) // a condition may skip steps of the stage
	return nil
}

// Rerun starts a new run of a pipeline that has ended: of all its steps, or of those that did not
// end well.
func (e *Engine) Rerun(p *Pipeline, all bool, now time.Time) error {
	before := weight(p)
	if err := p.Rerun(all, e.newUUID); err != nil {
		return err
	}
	e.ended -= before
	e.observer.Started(p, now)
	e.proceed(p, now)
	return nil
}

// completed reports a pipeline that has ended, and ends the step that started it.
func (e *Engine) completed(p *Pipeline, now time.Time) {
	e.observer.Completed(p, e.complete(p, e.limits.Keep), now)
	if st := p.Parent; st != nil && st.Outcome == Running {
		result := plan.Failed
		if p.State().Result.Name == "SUCCESSFUL" {
			result = plan.Passed
		}
		e.Conclude(st, result, now)
	}
}
