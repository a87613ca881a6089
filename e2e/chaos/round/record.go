package round

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// Record is what a round did and found.
type Record struct {
	Seed uint64
	// Dir has the plan, the diary, and the logs of all processes.
	Dir  string
	Took time.Duration
	// Rest is how long, by the round's clock, it took from the end of load and faults
	// until all was at rest.
	Rest time.Duration
	// Steps were queued; Passed of them passed, Stopped were cancelled, NoRunner found
	// no runner online.
	Steps, Passed, Stopped, NoRunner int
	// LostToKills were on runners that the round killed.
	LostToKills int
	// Faults that took effect, by kind.
	Faults map[plan.Kind]int
	// Pods that ran, and how often a scaler was started; each round has two.
	Pods, ScalerStarts int
	// Violations are what must not be; none in a good round.
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
	return fmt.Sprintf("seed %d, %.0fs, at rest after %v: %d steps (%d passed, %d stopped, %d without a runner, %d lost to kills), %d pods, %d scalers; %s: %s",
		r.Seed, r.Took.Seconds(), r.Rest.Round(time.Second), r.Steps, r.Passed, r.Stopped, r.NoRunner, r.LostToKills, r.Pods, r.ScalerStarts, strings.Join(faults, ", "), verdict)
}
