package program

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Otherwise the programs of `make build` and those of a release could differ.
func TestTheFlagsAreThoseOfTheMakefile(t *testing.T) {
	text, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nFLAGS   := " + strings.Join(Builder{LDFlags: `"$$GIVEN_LDFLAGS"`}.flags()[1:], " ") + "\n"; !strings.Contains(string(text), want) {
		t.Errorf("the Makefile does not have %q", want)
	}
	if want := "\nPROGRAMS := scaler sidecar runnerctl bitbucket-emulator\n"; !strings.Contains(string(text), want) || len(All) != 4 {
		t.Errorf("programs %v, want those of the Makefile", All)
	}
}

// go does not say what of the machine's settings it took.
func TestTheSettingsOfTheMachineDoNotReachAProgram(t *testing.T) {
	for name, value := range map[string]string{"GOFLAGS": "-tags=mine", "GOAMD64": "v3", "GOARM64": "v9.0", "GOEXPERIMENT": "nosimd", "CGO_ENABLED": "1", "GOWORK": "/tmp/go.work", "GOFIPS140": "latest", "GOOS": "plan9"} {
		t.Setenv(name, value)
	}
	cmd := exec.Command("go", "env", "GOFLAGS", "GOAMD64", "GOARM64", "GOEXPERIMENT", "CGO_ENABLED", "GOWORK", "GOFIPS140", "GOOS", "GOARCH")
	cmd.Env = Environment(Platform{"darwin", "arm64"})
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	if want := []string{"-trimpath", "v1", "v8.0", "", "0", "off", "off", "darwin", "arm64"}; !slices.Equal(got, want) {
		t.Errorf("settings %q, want %q", got, want)
	}
}

func TestAProgramForWindowsEndsWithExe(t *testing.T) {
	b := Builder{Work: "work"}
	if got := b.File("runnerctl", Platform{"windows", "arm64"}); got != "work/windows-arm64/runnerctl.exe" {
		t.Error(got)
	}
	if got := b.File("runnerctl", Platform{"linux", "arm64"}); got != "work/linux-arm64/runnerctl" {
		t.Error(got)
	}
}
