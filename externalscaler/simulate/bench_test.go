package simulate

import (
	"testing"

	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// BenchmarkDay simulates a day of 10,000 steps. The reference is the clairvoyant, which decides
// nothing.
func BenchmarkDay(b *testing.B) {
	load := workload.Synthetic{Shape: workload.Monorepo, Steps: 10_000, Days: 1, Labels: builds, Seed: 1}.Make()
	for name, c := range map[string]struct {
		scaler Scaler
		group  Group
	}{
		"queuedSteps":           {Ours{}, groupOf(b, "strategy", "queuedSteps", "max", "100")},
		"queuedSteps lookAhead": {Ours{}, groupOf(b, "strategy", "queuedSteps", "max", "100", "lookAhead", "30s")},
		"percentageRunnersIdle": {Ours{}, groupOf(b, "max", "100")},
		"reference":             {Clairvoyant{}, groupOf(b, "max", "100")},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run(b, load, Defaults(), c.scaler, c.group)
			}
		})
	}
}
