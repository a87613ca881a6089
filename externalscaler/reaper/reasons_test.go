package reaper

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A reason that is missing in Removals would not be shown as 0 before the first removal.
func TestRemovalsAreAllReasonsForWhichSomethingIsEnded(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	values, used := map[string]string{}, map[string]bool{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, defined := range regexp.MustCompile(`(Reason\w+) += "(\w+)"`).FindAllStringSubmatch(string(text), -1) {
			values[defined[1]] = defined[2]
		}
		for _, use := range regexp.MustCompile(`(?:removal\{|Count\()(Reason\w+)`).FindAllStringSubmatch(string(text), -1) {
			used[use[1]] = true
		}
	}
	var want []string
	for name := range used {
		want = append(want, values[name])
	}
	if got := slices.Sorted(slices.Values(Removals())); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("got %q, want %q", got, slices.Sorted(slices.Values(want)))
	}
}
