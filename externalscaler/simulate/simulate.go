// Package simulate runs a workload on a virtual clock, with the rules of the scaler, and measures how
// long steps wait and what the runners cost.
//
// The rules are those of the scaler itself: package policy decides how many runners there should be,
// fleet what each one counts as, queue whose a step is and when it is expected, and reaper who is
// retired. What is simulated is the world around them: Bitbucket, KEDA, Kubernetes, and how long each
// takes. Simulations are deterministic: the same arguments give the same result.
//
// Beside the scaler, two others can run the same workload: a model of Atlassian's runners-autoscaler,
// and a clairvoyant that knows the future.
package simulate

import (
	"context"
	"fmt"
	"time"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// Scaler is who decides how many runners there are.
type Scaler interface {
	// start returns what drives a world of these groups.
	start(w *world) driver
}

// Configuration is what is simulated: the runner groups, and who scales them.
type Configuration struct {
	Name   string
	Groups []Group
	// Scaler is Ours, an Incumbent or a Clairvoyant.
	Scaler Scaler
}

// Group is a runner group with a name.
type Group struct {
	Namespace, Name string
	runnergroup.Group
}

// driver drives a world. A world calls it after it has changed.
type driver interface {
	// pipeline says that a pipeline has begun, and over that it has ended.
	pipeline(p *pipeline)
	over(p *pipeline)
	// ready says that a step can start now. The driver returns false if the world need not look for
	// a runner.
	ready(s *step) bool
	// changed says that a runner was registered, has come online, has begun a step, has ended one, or is gone. The
	// runner is nil if the driver began the step itself.
	changed(r *runner, s *step, what change)
	// settled says that everything that happens at this moment has happened.
	settled()
	// desired is how many runners the driver wants now.
	desired() int
}

// change is what has happened to a runner.
type change int

const (
	wasRegistered change = iota
	cameOnline
	beganStep
	endedStep
	isGone
)

// warmUp is how long before the workload the groups begin, so that they have their minimum.
const warmUp = 15 * time.Minute

// Run simulates a configuration.
func Run(ctx context.Context, load workload.Workload, c Configuration, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	w := newWorld(load, c, o)
	w.driver = c.Scaler.start(w)
	for !w.done() {
		if ctx.Err() != nil {
			return Result{}, fmt.Errorf("simulate %s: %w", c.Name, ctx.Err())
		}
		w.next()
	}
	return w.result(c.Name), nil
}
