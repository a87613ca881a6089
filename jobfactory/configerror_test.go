package jobfactory_test

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory"
)

func TestALongValueIsShortened(t *testing.T) {
	err := jobfactory.NewConfigError("name", strings.Repeat("x", 65)+"\xff", "a name")
	if want := `name: "` + strings.Repeat("x", 64) + `...", want a name`; err.Error() != want {
		t.Errorf("got %s, want %s", err, want)
	}
}
