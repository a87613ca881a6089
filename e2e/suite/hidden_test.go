package suite

import (
	"context"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// Bitbucket's public API may list runners without their steps. Then only the sidecars know
// which runners are busy. The test uses its own scope, because a list without steps has
// another meaning in a scope whose lists have shown steps.
func TestWorkedExampleWithoutStepsInLists(t *testing.T) {
	t.Parallel()
	hidden := []emulator.FaultRule{{Path: "*/repositories/*/pipelines-config/runners*", HideStep: true}}
	if err := shared.Control.SetFaults(t.Context(), hidden); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Control.SetFaults(context.WithoutCancel(t.Context()), nil); err != nil {
			t.Error(err)
		}
	})
	group(t, "hidden", map[string]string{
		"repository": "web", "min": "1", "max": "10", "scaleUpThreshold": "0.8", "coolDown": "0s",
	})
	untilOnline(t, "hidden", 1, 0)
	steps := queueIn(t, "web", "hidden", 1, "40s")
	untilOnline(t, "hidden", 2, 1)
	untilPassed(t, steps)
	untilOnline(t, "hidden", 1, 0)
	// While one of them is busy, scale-down removes the idle one.
	steps = queueIn(t, "web", "hidden", 4, "10s")
	untilPassed(t, steps)
	untilOnline(t, "hidden", 1, 0)
	if deleted := state(t).Counters.BusyRunnersDeleted; deleted != 0 {
		t.Errorf("%d busy runners deleted", deleted)
	}
}
