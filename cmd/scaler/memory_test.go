package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"go.uber.org/zap"
)

func TestTheRuntimeKeepsTheMemoryOfTheContainer(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	const none = math.MaxInt64
	for name, c := range map[string]struct {
		file, environment string
		want              int64
	}{
		"a limit":              {file: "268435456\n", want: 241591910},
		"no limit":             {file: "max\n", want: none},
		"no cgroup":            {want: none},
		"what cannot be read":  {file: "much\n", want: none},
		"one of the user's":    {file: "268435456\n", environment: "1GiB", want: none}, // the runtime has read it
		"a limit of no memory": {file: "0\n", want: none},
	} {
		debug.SetMemoryLimit(none)
		file := filepath.Join(t.TempDir(), "memory.max")
		if c.file != "" {
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		limitMemory(file, func(string) (string, bool) { return c.environment, c.environment != "" }, zap.NewNop())
		if got := debug.SetMemoryLimit(-1); got != c.want {
			t.Errorf("%s: got %d bytes, want %d", name, got, c.want)
		}
	}
}

func TestTheHeapHasLittleHeadroomUnlessTheUserSaysOtherwise(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for environment, want := range map[string]int{"": heapGrowth, "200": 100} { // the runtime has read it
		debug.SetGCPercent(100)
		saveMemory(func(string) (string, bool) { return environment, environment != "" })
		if got := debug.SetGCPercent(-1); got != want {
			t.Errorf("GOGC=%q: got %d %%, want %d", environment, got, want)
		}
	}
}
