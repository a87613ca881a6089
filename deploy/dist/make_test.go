package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// callsOfMake runs make with a stand-in for go, and returns the calls of this command, one per line,
// with each argument in brackets.
func callsOfMake(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	stand, calls := filepath.Join(dir, "go"), filepath.Join(dir, "calls")
	script := `#!/bin/sh
case "$1" in env) echo amd64; exit ;; esac
{ printf '[%s]' "$@"; echo; } >>"` + calls + `"
`
	write(t, stand, script)
	if err := os.Chmod(stand, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", append([]string{"-C", "../..", "GO=" + stand}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %q: %v\n%s", args, err, out)
	}
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMakeBuildsBeforeItPublishes(t *testing.T) {
	for _, goals := range [][]string{{"-j4", "dist", "publish"}, {"-j4", "publish", "dist"}} {
		got := callsOfMake(t, append(goals, "VERSION=v1.2.3")...)
		if build, push := strings.Index(got, "[build]"), strings.Index(got, "[push]"); build < 0 || push < build || strings.Count(got, "\n") != 2 {
			t.Errorf("make %q:\n%s", goals, got)
		}
	}
}

func TestMakePublishPassesOnlyWhatIsGiven(t *testing.T) {
	if got := callsOfMake(t, "publish"); strings.Contains(got, "[-version]") || strings.Contains(got, "-repository]") || strings.Contains(got, "[build]") {
		t.Errorf("with nothing given: %s", got)
	}
	got := callsOfMake(t, "publish", "VERSION=v1.2.3", "CHART_REPOSITORY=registry.example.org/charts")
	if !strings.Contains(got, "[-version][v1.2.3][-chart-repository][registry.example.org/charts]\n") {
		t.Errorf("with a version and a repository: %s", got)
	}
}

// A tag may have quotes and semicolons.
func TestMakeRunsNothingThatAVariableSays(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	evil := `v1";touch ` + ran + `;"`
	for _, goal := range []string{"dist", "publish", "build"} {
		if got := callsOfMake(t, goal, "VERSION="+evil, "CHART_REPOSITORY="+evil); !strings.Contains(got, evil) {
			t.Errorf("make %s does not pass the version: %s", goal, got)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Fatalf("make %s ran the version", goal)
		}
	}
}
