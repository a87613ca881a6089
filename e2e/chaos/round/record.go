package round

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// Record is the result of a round.
type Record struct {
	Seed uint64
	// Dir contains the plan, the round's log, and the logs of all processes.
	Dir  string
	Took time.Duration
	// Rest is the time from the end of load and faults until everything was at rest, on
	// the round's clock.
	Rest time.Duration
	// Steps is the number of queued steps. Passed passed, Stopped were cancelled, and
	// NoRunner found no runner online.
	Steps, Passed, Stopped, NoRunner int
	// LostToKills is the number of steps on runners that the round killed.
	LostToKills int
	// Failed is the number of steps that failed as planned, and NotReached that of steps that
	// were never to run.
	Failed, NotReached int
	// Phantom is the longest time for which a step counted as waiting that did not wait.
	Phantom time.Duration
	// Faults counts the faults that took effect, by kind.
	Faults map[plan.Kind]int
	// Pods is the number of pods that ran. ScalerStarts is how often a scaler was
	// started.
	Pods, ScalerStarts int
	// Violations lists the violated invariants.
	Violations []string
}

func (r *Record) violate(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

// String is one line.
func (r Record) String() string {
	verdict := "ok"
	if len(r.Violations) > 0 {
		verdict = "VIOLATED: " + strings.Join(r.Violations, "; ")
	}
	faults := make([]string, 0, len(r.Faults))
	for _, kind := range slices.Sorted(maps.Keys(r.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, r.Faults[kind]))
	}
	return fmt.Sprintf("seed %d, %.0fs, at rest after %v: %d steps (%d passed, %d stopped, %d without a runner, %d lost to kills, %d failed as planned, %d not reached), wrongly waiting for up to %v, %d pods, %d scalers; %s: %s",
		r.Seed, r.Took.Seconds(), r.Rest.Round(time.Second), r.Steps, r.Passed, r.Stopped, r.NoRunner, r.LostToKills, r.Failed, r.NotReached, r.Phantom.Round(time.Second), r.Pods, r.ScalerStarts, strings.Join(faults, ", "), verdict)
}
