package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// The parts of the pages that these tests write, with UPDATE_GOLDEN=1.
var (
	examples   = regexp.MustCompile("(?s)```sh\n(runnerctl simulate [^\n]*)\n```\n\n```text\n(.*?)```")
	strategies = regexp.MustCompile("(?s)(<!-- strategies: [^>]* -->\n).*(<!-- end of the strategies -->)")
)

const docs = "../../docs"

// current compares a page with what it should be, or writes it.
func current(t *testing.T, path, want string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		diff := "of a picture"
		if strings.HasSuffix(path, ".md") {
			diff = cmp.Diff(string(got), want)
		}
		t.Errorf("%s is not current, make bench-strategies writes it: %s", path, diff)
	}
}

func TestTheExamplesOfSimulateAreCurrent(t *testing.T) {
	path := filepath.Join(docs, "simulate.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	played := 0
	want := examples.ReplaceAllStringFunc(string(page), func(block string) string {
		line := examples.FindStringSubmatch(block)[1]
		got := runs(t, nil, "", words(line)[1:]...)
		if got.code != 0 {
			t.Errorf("%s: exit code %d:\n%s", line, got.code, got.printed())
		}
		played++
		return "```sh\n" + line + "\n```\n\n```text\n" + got.stderr + got.stdout + "```"
	})
	if played != 2 {
		t.Errorf("%d examples with their output, want 2", played)
	}
	current(t, path, want)
}

// shapes says what each shape of a workload is.
var shapes = map[workload.Shape]string{
	workload.Steady:   "Pipelines of up to five steps begin at any time of the day.",
	workload.Bursty:   "Most pipelines begin together with others within a minute, as after a release or a nightly trigger.",
	workload.Day:      "A working day with a dip at lunch, and little at night.",
	workload.Monorepo: "Pushes over a working day. Each is one build, after which 8 to 24 tests run side by side, and a report.",
}

func TestTheBenchmarksOfTheStrategiesAreCurrent(t *testing.T) {
	var text strings.Builder
	for _, shape := range workload.Shapes() {
		picture := "benchmarks/strategies-" + string(shape) + ".svg"
		drawn := filepath.Join(t.TempDir(), "drawn.svg")
		args := fmt.Sprintf("simulate --synthetic %s --steps 3000 --max 100 --price-per-hour 0.10", shape)
		table := runs(t, nil, "", words(args+" -o markdown --plot "+drawn)...)
		if table.code != 0 {
			t.Fatal(table.printed())
		}
		fmt.Fprintf(&text, "\n### %s\n\n%s `runnerctl %s` gives:\n\n%s\n%s\n\n![Waiting steps and runners over the day, and how the waits are distributed](%s)\n",
			strings.ToUpper(string(shape[:1]))+string(shape[1:]), shapes[shape], args, table.stdout, idleShare(t, table.stdout), picture)
		svg, err := os.ReadFile(drawn)
		if err != nil {
			t.Fatal(err)
		}
		current(t, filepath.Join(docs, picture), string(svg))
	}
	path := filepath.Join(docs, "benchmarks.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strategies.Match(page) {
		t.Fatalf("%s has no part for the strategies", path)
	}
	current(t, path, strategies.ReplaceAllString(string(page), "${1}"+strings.ReplaceAll(text.String(), "$", "$$")+"\n${2}"))
}

// idleShare is a sentence that compares the idle time with that of the incumbent.
func idleShare(t *testing.T, table string) string {
	t.Helper()
	idle := map[string]float64{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if hours, err := strconv.ParseFloat(cells[min(7, len(cells)-1)], 64); err == nil {
			idle[strings.TrimPrefix(cells[0], "| ")] = hours
		}
	}
	share := func(of string) float64 { return 100 * idle["queuedSteps"] / idle[of] }
	return fmt.Sprintf("The idle runner hours of `queuedSteps` are %.0f %% of those of runners-autoscaler at 600 s, and %.0f %% of those at 120 s.",
		share("runners-autoscaler, 600 s"), share("runners-autoscaler, 120 s"))
}
