package round

import (
	"context"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// readyPatience is how long the groups may take to have their first runners.
const readyPatience = 5 * time.Minute

// queue queues a pipeline at its time, and stops it at its.
func (r *Round) queue(ctx context.Context, one plan.Pipeline) {
	if !r.at(ctx, one.At) {
		return
	}
	group := r.plan.Groups[one.Group]
	queued, err := r.control.QueuePipeline(ctx, emulator.StepRequest{
		Workspace: "acme", Repository: group.StepsIn, Labels: []string{"self.hosted", "linux", r.label(group)},
		Duration: one.Duration.String(), Count: one.Steps,
	})
	if err != nil {
		r.violate("%d steps were not queued: %v", one.Steps, err)
		return
	}
	r.note("queued %d steps of %v for %s", one.Steps, one.Duration, group.Name)
	if one.StopAfter == 0 || !r.pause(ctx, one.StopAfter) {
		return
	}
	r.mu.Lock()
	r.stopped[queued.Pipeline] = struct{}{}
	r.mu.Unlock()
	if err := r.control.StopPipeline(ctx, queued.Pipeline); err != nil {
		r.violate("pipeline %s was not stopped: %v", queued.Pipeline, err)
	}
	r.note("stopped the %d steps for %s that were queued %v ago", one.Steps, group.Name, one.StopAfter)
}

func (r *Round) violate(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.violate(format, args...)
}
