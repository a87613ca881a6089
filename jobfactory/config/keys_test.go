package config

import (
	"slices"
	"testing"

	"bitbucket-runner-scaler/jobfactory"
)

// Validate reports paths of the configuration file, so it must know which keys are
// parameters.
func TestPathsOfFaultsAreKeysOfTheFile(t *testing.T) {
	for _, name := range names(parameterKeys) {
		if want := "parameters." + name; name != runnersCount && jobfactory.ConfigPath(name) != want {
			t.Errorf("path %s, want %s", jobfactory.ConfigPath(name), want)
		}
	}
	for _, key := range []string{"workspace", "repository", "labels", "os", "strategy", "repositories", "credentials"} {
		if path := jobfactory.ConfigPath(key); !slices.Contains(names(groupKeys), path) {
			t.Errorf("%s: path %s, which is not a key of a group", key, path)
		}
	}
}
