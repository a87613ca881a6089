package round

import (
	"context"
	"time"

	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// readyPatience is how long the groups may take to have their first runners.
const readyPatience = 5 * time.Minute

// queue starts a pipeline at its time, and opens, stops and repeats it as planned.
func (r *Round) queue(ctx context.Context, one plan.Pipeline) {
	if !r.at(ctx, one.At) {
		return
	}
	name := r.plan.Groups[one.Group].Name
	pipeline, err := r.start(ctx, one)
	if err != nil {
		r.violate("%s was not started: %v", one, err)
		return
	}
	r.note("started %s: %s for %s", pipeline, one, name)
	if one.OpenAfter > 0 && r.pause(ctx, one.OpenAfter) {
		r.open(ctx, pipeline)
	}
	if one.StopAfter > 0 && r.pause(ctx, one.StopAfter) {
		r.stop(ctx, pipeline)
		r.note("stopped %s", pipeline)
	}
	if one.Rerun {
		r.rerun(ctx, pipeline)
	}
}

// violate records a violation, and notes when it was found.
func (r *Round) violate(format string, args ...any) {
	r.note("VIOLATED: "+format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.violate(format, args...)
}
