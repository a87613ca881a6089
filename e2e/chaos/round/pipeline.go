package round

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// planSteps tells Bitbucket which steps fail.
func (r *Round) planSteps(ctx context.Context) error {
	var steps emulator.StepPlan
	for name, probability := range plan.Results() {
		steps.Rules = append(steps.Rules, emulator.StepRule{Step: name, Result: "FAILED", Probability: probability})
	}
	return r.control.Plan(ctx, steps)
}

// start starts a pipeline and returns its UUID.
func (r *Round) start(ctx context.Context, one plan.Pipeline) (uuid string, err error) {
	group := r.plan.Groups[one.Group]
	if one.Shape == plan.Bag {
		queued, err := r.control.QueuePipeline(ctx, emulator.StepRequest{
			Workspace: "acme", Repository: group.StepsIn, Labels: []string{"self.hosted", "linux", r.label(group)},
			Duration: one.Duration.String(), Count: one.Steps,
		})
		return queued.Pipeline, err
	}
	return r.push(ctx, emulator.PushRequest{Repository: group.StepsIn, File: one.File(r.label(group))})
}

func (r *Round) push(ctx context.Context, request emulator.PushRequest) (uuid string, err error) {
	request.Workspace, request.Changed = "acme", []string{"main.go"}
	pushed, err := r.control.Push(ctx, request)
	if err == nil && pushed.Pipeline == "" {
		err = errors.New("no pipeline was started")
	}
	return pushed.Pipeline, err
}

// open opens the gate of a pipeline, if it has been reached.
func (r *Round) open(ctx context.Context, pipeline string) {
	for _, step := range r.stepsOf(ctx, pipeline) {
		if step.Outcome != emulator.OutcomePaused {
			continue
		}
		if err := r.control.StartStep(ctx, step.UUID); err != nil {
			r.note("gate not opened: %v", err) // another fault was faster
		}
		r.note("opened the gate of build %d", step.Build)
	}
}

// stop cancels a pipeline.
func (r *Round) stop(ctx context.Context, pipeline string) {
	r.mu.Lock()
	r.stopped[pipeline] = struct{}{}
	r.mu.Unlock()
	if err := r.control.StopPipeline(ctx, pipeline); err != nil {
		r.violate("pipeline %s was not stopped: %v", pipeline, err)
	}
}

// rerun runs a pipeline again once it has ended. One that does not end in time is left alone.
func (r *Round) rerun(ctx context.Context, pipeline string) {
	if !r.awaitSteps(ctx, pipeline, func(steps []emulator.StepInfo) bool { return !slices.ContainsFunc(steps, open) }) {
		return
	}
	if err := r.control.Rerun(ctx, pipeline, emulator.RerunRequest{All: true}); err != nil {
		r.note("not run again: %v", err)
		return
	}
	r.note("pipeline %s runs again", pipeline)
}

// rerunPatience is how long a pipeline may take until it is run again, on the round's clock.
const rerunPatience = 90 * time.Second

// awaitSteps waits until a condition holds for the steps of a pipeline.
func (r *Round) awaitSteps(ctx context.Context, pipeline string, holds func([]emulator.StepInfo) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, r.clock.Real(rerunPatience))
	defer cancel()
	for {
		if steps := r.stepsOf(ctx, pipeline); len(steps) > 0 && holds(steps) {
			return true
		}
		if !sleep(ctx, lookEvery/2) {
			return false
		}
	}
}

func (r *Round) stepsOf(ctx context.Context, pipeline string) []emulator.StepInfo {
	state, err := r.control.State(ctx)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(state.Steps, func(step emulator.StepInfo) bool { return step.PipelineUUID != pipeline })
}

// open reports whether a step has not ended.
func open(step emulator.StepInfo) bool {
	return slices.Contains([]string{
		emulator.OutcomeQueued, emulator.OutcomeRunning, emulator.OutcomeWaiting, emulator.OutcomePaused, emulator.OutcomeHalted,
	}, step.Outcome)
}

// queueGroup returns a group that scales by the queue.
func (r *Round) queueGroup(pick int) plan.Group {
	var groups []plan.Group
	for _, g := range r.plan.Groups {
		if g.ByQueue {
			groups = append(groups, g)
		}
	}
	return groups[pick%len(groups)]
}

// changeFile pushes a file of which Bitbucket runs another version: with fewer or more steps, or with
// steps of the same names on its own runners.
func (r *Round) changeFile(ctx context.Context, f plan.Fault) bool {
	g := r.queueGroup(f.Pick)
	read := plan.Pipeline{Shape: plan.FanOut, Steps: 3, Duration: 5 * time.Second}
	runs := read
	runs.Steps += f.Pick%3 - 1
	r.note("%s: %d instead of %d parallel steps for %s", f, runs.Steps, read.Steps, g.Name)
	file := runs.File(r.label(g))
	if runs.Steps == read.Steps {
		file = read.File("")
	}
	_, err := r.push(ctx, emulator.PushRequest{Repository: g.StepsIn, File: read.File(r.label(g)), Runs: file})
	if err != nil {
		r.violate("not pushed: %v", err)
	}
	return err == nil
}

// mislead stops a pipeline as soon as its first step has passed, when its next steps count as
// waiting by the report of the runner. Mostly it is run again at once.
func (r *Round) mislead(ctx context.Context, f plan.Fault) bool {
	g := r.queueGroup(f.Pick)
	one := plan.Pipeline{Shape: plan.FanOut, Steps: 8, Duration: 4 * time.Second}
	pipeline, err := r.push(ctx, emulator.PushRequest{Repository: g.StepsIn, File: one.File(r.label(g))})
	if err != nil {
		r.violate("not pushed: %v", err)
		return false
	}
	r.note("%s: pipeline %s for %s", f, pipeline, g.Name)
	if !r.awaitSteps(ctx, pipeline, func(steps []emulator.StepInfo) bool { return !open(steps[0]) }) {
		r.note("the first step of %s has not ended", pipeline)
		return false
	}
	r.stop(ctx, pipeline)
	r.note("stopped %s after its first step", pipeline)
	if f.Pick%3 > 0 {
		r.rerun(ctx, pipeline)
	}
	return true
}

// describe names a step of a violation.
func describe(step emulator.StepInfo) string {
	return fmt.Sprintf("%s build %d %q (%s %s)", step.Repository, step.Build, step.Name, step.Outcome, step.Cause)
}
