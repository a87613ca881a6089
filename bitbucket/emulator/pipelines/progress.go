package pipelines

import (
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
)

// Judge decides whether the condition of a step or stage of that name holds.
type Judge func(p *Pipeline, name string, c definition.Condition) bool

// Proceed marks the steps that are reached now as queued, and returns them. It pauses at gates,
// and skips what a condition rules out. Steps behind a failed one are not run, except the final
// one.
func (p *Pipeline) Proceed(now time.Time, holds Judge) []*Step {
	failed := slices.ContainsFunc(p.Steps, func(st *Step) bool { return !st.Final && st.Ended() && !st.fine() })
	var reached []*Step
	for _, st := range p.Steps {
		switch {
		case st.Outcome == Paused && failed && !st.Final:
			st.Outcome = NotRun
		case st.Outcome != Waiting || !p.passedBefore(st):
		case !st.Final && !p.fineBefore(st):
			st.Outcome = NotRun
		case p.reach(st, failed && !st.Final, now, holds):
			reached = append(reached, st)
		}
	}
	p.complete(now)
	return reached
}

// passedBefore reports whether all steps directly before a step have ended.
func (p *Pipeline) passedBefore(st *Step) bool {
	return !slices.ContainsFunc(st.After, func(i int) bool { return !p.Steps[i].Ended() })
}

func (p *Pipeline) fineBefore(st *Step) bool {
	return !slices.ContainsFunc(st.After, func(i int) bool { return !p.Steps[i].fine() })
}

// reach handles a step all of whose predecessors have ended. It reports whether the step is
// queued. After a failure no gate is opened any more.
func (p *Pipeline) reach(st *Step, failed bool, now time.Time, holds Judge) bool {
	for _, i := range st.Groups {
		g := &p.groups[i]
		if !slices.Contains(g.First, st.index) {
			continue
		}
		if g.When != nil && !g.judged && !holds(p, g.Name, *g.When) {
			for _, inside := range g.Steps {
				p.Steps[inside].Outcome = Skipped
			}
			return false
		}
		g.judged = true
		if g.Manual && !g.opened {
			return st.pause(i, failed)
		}
	}
	if st.When != nil && !holds(p, st.Title(), *st.When) {
		st.Outcome = Skipped
		return false
	}
	if st.Manual {
		return st.pause(-1, failed)
	}
	st.Outcome, st.QueuedOn = Queued, now
	return true
}

func (st *Step) pause(gate int, failed bool) (queued bool) {
	st.Outcome, st.gate = Paused, gate
	if failed {
		st.Outcome = NotRun
	}
	return false
}

// Start starts a paused step, as a user does. If it is paused for its stage, the stage starts.
// Start returns the steps that are queued now.
func (st *Step) Start(now time.Time, holds Judge) ([]*Step, error) {
	if st.Outcome != Paused {
		return nil, fmt.Errorf("step %s is %s, not paused", st.UUID, st.Outcome)
	}
	p := st.Pipeline
	if st.gate < 0 {
		st.Outcome, st.QueuedOn = Queued, now
		return []*Step{st}, nil
	}
	gate := st.gate
	p.groups[gate].opened = true
	var reached []*Step
	for _, other := range p.Steps {
		if other.Outcome != Paused || other.gate != gate {
			continue
		}
		other.gate = -1
		if queued := p.reach(other, false, now, holds); queued || other == st && other.Outcome == Paused {
			other.Outcome, other.QueuedOn = Queued, now // one person starts the stage and this step
			reached = append(reached, other)
		}
	}
	return reached, nil
}

// End ends a step.
func (st *Step) End(outcome, cause string, now time.Time) {
	st.Outcome, st.Cause, st.CompletedOn = outcome, cause, now
}

// Retry queues a failed step again if it has retries left.
func (st *Step) Retry(now time.Time) bool {
	if st.Outcome != Failed || st.Cause == CauseStopped || st.Retries >= st.Failure.Retries {
		return false
	}
	st.Retries++
	st.Outcome, st.Cause, st.Runner, st.QueuedOn = Queued, "", "", now
	st.StartedOn, st.CompletedOn = time.Time{}, time.Time{}
	return true
}

// StopOthers stops the open steps of a parallel group that fails fast, if the step has failed,
// and returns them. The caller takes them from their runners.
func (st *Step) StopOthers(now time.Time) []*Step {
	if st.Stops < 0 || st.fine() || !st.Ended() || st.Cause == CauseStopped {
		return nil
	}
	var stopped []*Step
	for _, i := range st.Pipeline.groups[st.Stops].Steps {
		if other := st.Pipeline.Steps[i]; !other.Ended() {
			other.End(Failed, CauseStopped, now)
			stopped = append(stopped, other)
		}
	}
	return stopped
}

// Stop ends all open steps, as a user does, and returns them. The caller takes them from their
// runners. The final step still runs, unless it has begun already or the pipeline is PARSING.
func (p *Pipeline) Stop(now time.Time) []*Step {
	final := p.Parsing
	p.stopped, p.Parsing = true, false
	var stopped []*Step
	for _, st := range p.Steps {
		if !st.Ended() && (final || !st.Final || st.Outcome != Waiting) {
			st.End(Failed, CauseStopped, now)
			stopped = append(stopped, st)
		}
	}
	return stopped
}

// Rerun starts a new run of a completed pipeline: of all its steps, or of those that did not
// end well. Steps of the new run have new UUIDs.
func (p *Pipeline) Rerun(all bool, newUUID func() string) error {
	switch {
	case !p.Ended():
		return fmt.Errorf("pipeline %s has not completed", p.UUID)
	case p.Fault != "":
		return fmt.Errorf("pipeline %s is in error: %s", p.UUID, p.Fault)
	case !all && !p.failed():
		return fmt.Errorf("pipeline %s has no failed steps", p.UUID)
	}
	p.Run++
	p.CompletedOn, p.stopped = time.Time{}, false
	for i := range p.groups {
		p.groups[i].judged, p.groups[i].opened = false, false
	}
	for i, st := range p.Steps {
		if all || st.Final || !st.fine() {
			p.Earlier = append(p.Earlier, st)
			p.Steps[i] = &Step{UUID: newUUID(), Pipeline: p, Step: st.Step, Duration: st.Step.Duration, Run: p.Run, Outcome: Waiting, index: i, gate: -1}
		}
	}
	return nil
}

// complete records the time at which the last step ended.
func (p *Pipeline) complete(now time.Time) {
	if p.CompletedOn.IsZero() && !p.Parsing && !slices.ContainsFunc(p.Steps, func(st *Step) bool { return !st.Ended() }) {
		p.CompletedOn = now
	}
}
