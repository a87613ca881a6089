package runnergroup

import (
	"maps"
	"slices"
	"testing"
)

// TestMetadataHasEveryKey catches a new key that Parse reads and Metadata forgets: it
// would be accepted in a configuration file and be missing from the ScaledJob.
func TestMetadataHasEveryKey(t *testing.T) {
	ratio := map[string]string{
		keyWorkspace: "acme", keyLabels: "a,b", keyOS: "linux.arm64", keyStrategy: "queuedSteps", keyMin: "2", keyMax: "20",
		keyScaleUpThreshold: "0.8", keyScaleDownThreshold: "0.1", keyScaleUpMultiplier: "2", keyScaleDownMultiplier: "0.3",
		keySpare: "3", keyCoolDown: "1m0s", keyEphemeral: "true", keyMaxAge: "1h0m0s", keyRepositories: "app", keyCredentials: "team", keyLookAhead: "30s",
		keySchedules: `[{"start":"0 7 * * 1-5","end":"0 19 * * 1-5","timezone":"Europe/Berlin","min":3}]`,
	}
	fixed := map[string]string{keyWorkspace: "acme", keyRepository: "app", keyLabels: "a", keyStrategy: "fixed", keyCount: "3"}
	seen := map[string]bool{}
	for _, given := range []map[string]string{ratio, fixed} {
		group, err := Parse(given)
		if err != nil {
			t.Fatal(err)
		}
		got := group.Metadata()
		for key, value := range given {
			seen[key] = true
			if got[key] != value {
				t.Errorf("%s: got %q, want %q", key, got[key], value)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(defaults)) {
		if !seen[key] {
			t.Errorf("%s: no group of this test has it, so it may be missing from the metadata", key)
		}
	}
}
