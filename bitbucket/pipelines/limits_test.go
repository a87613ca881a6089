package pipelines

import (
	"fmt"
	"strings"
	"testing"
)

// manySteps returns the text of a pipeline of n steps.
func manySteps(n int) string {
	return "pipelines:\n  default:\n" + strings.Repeat("  - step: {script: [a]}\n", n)
}

func TestWhatIsTooLargeIsRefused(t *testing.T) {
	bomb := "a0: &a0 [step: {script: [a]}]\n"
	for i := 1; i < 30; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [parallel: *a%d, parallel: *a%d]\n", i, i, i-1, i-1)
	}
	// 1,000 pipelines of 100 steps of 20,000 fields each.
	wide := "step: &s {runs-on: x" + numbered(20_000, ", k%d: v") + "}\nlist: &l\n" + strings.Repeat("- step: *s\n", 100) + "pipelines:\n  custom:\n" + numbered(1000, "    p%d: *l\n")
	for name, c := range map[string]struct{ text, want string }{
		"100 steps":                  {manySteps(100), ""},
		"101 steps":                  {manySteps(101), "line 103: pipelines.default[100].step: want at most 100 steps in a pipeline"},
		"100 steps and a final one":  {manySteps(100) + "  - final: {script: [a]}\n", "line 103: pipelines.default[100].final: want at most 100 steps in a pipeline"},
		"40,000 steps":               {manySteps(40_000), "line 103: pipelines.default[100].step: want at most 100 steps in a pipeline"},
		"1 MB":                       {manySteps(1) + "# " + strings.Repeat("x", MaxSize), "want at most 1048576"},
		"nested lists":               {"pipelines: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested too deeply, want at most 100 levels"},
		"very deep lists":            {"pipelines: " + strings.Repeat("[", 500_000), "not YAML"},
		"nested mappings":            {"a: " + strings.Repeat("{a: ", 200) + strings.Repeat("}", 200), "nested too deeply, want at most 100 levels"},
		"a bomb that is not read":    {bomb + manySteps(1), ""},
		"a bomb of nested groups":    {bomb + "pipelines: {default: *a29}", `pipelines.default[0].parallel[0].parallel: "parallel", want one of step, stage`},
		"a bomb of wide steps":       {wide, "the file is too large once its aliases are replaced"},
		"a list in itself":           {"pipelines: {default: &a [*a]}", "pipelines.default[0]: \"a list\", want one of step"},
		"a group in itself":          {"pipelines: {default: &a [parallel: *a]}", "want one of step, stage"},
		"a mapping in itself":        {"pipelines: &a {default: [step: {script: [a]}], custom: *a}", "pipelines.custom.custom: \"a mapping\", want a list of steps, or import"},
		"many faults":                {"pipelines: {custom: {" + numbered(500, "p%d: [],\n") + "}}", "pipelines.custom.p99: want at least one step"},
		"a mark and other line ends": {"\ufeff" + strings.ReplaceAll(manySteps(2), "\n", "\r\n"), ""},
		"bytes that are not text":    {"pipelines: {default: [\xff\xfe]}", "not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
				t.Errorf("got %.300s, want %s", got, c.want)
			}
			if n := len(faultsOf(err)); n > maxFaults {
				t.Errorf("%d faults, want at most %d", n, maxFaults)
			}
		})
	}
}

// numbered repeats a text with numbers from 0.
func numbered(n int, format string) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, format, i)
	}
	return text.String()
}

func TestAFaultNamesThePipelinesThatItMakesUnknown(t *testing.T) {
	file, err := Parse([]byte("pipelines:\n  default:\n  - step: {runs-on: {}}\n  custom:\n    ok: [step: {runs-on: x}]\n    options: []\noptions: {runs-on: [1]}\n"))
	if err == nil || file == nil {
		t.Fatalf("got %v and %v", file, err)
	}
	if p := file.Select(Selector{Type: Default}); !strings.HasPrefix(p.Unknown, "line 3: pipelines.default[0].step.runs-on") {
		t.Errorf("unknown %q", p.Unknown)
	}
	if p := file.Select(Selector{Custom, "ok"}); p.Unknown != "" || len(p.Steps) != 1 {
		t.Errorf("got %+v", p)
	}
}

func TestFaultyOptionsMakeTheLabelsUnknownOfStepsWithoutTheirOwn(t *testing.T) {
	file, err := Parse([]byte("pipelines: {default: [step: {script: [a]}, step: {runs-on: x}]}\noptions: {runs-on: {a: b}}\n"))
	if err == nil || file == nil {
		t.Fatalf("got %v and %v", file, err)
	}
	p := file.Select(Selector{Type: Default})
	if len(p.Steps) != 2 || !strings.Contains(p.Steps[0].Unknown, "options.runs-on") || p.Steps[1].Unknown != "" || len(p.Steps[1].Labels) != 1 {
		t.Errorf("got %+v", p)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range corpus(f) {
		f.Add([]byte(text))
	}
	f.Add([]byte(statesFile))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if file == nil {
			if err == nil {
				t.Fatal("neither a file nor an error")
			}
			return
		}
		for _, path := range file.Imports() {
			file = file.With(path, file)
		}
		for _, selector := range file.Selectors() {
			p := file.Select(selector)
			if (p.Unknown == "") != (len(p.Steps) > 0) || len(p.Steps) > MaxSteps {
				t.Fatalf("%s: unknown %q and %d steps", selector, p.Unknown, len(p.Steps))
			}
			for i, step := range p.Steps {
				if step.Index != i || step.Unknown != "" && len(step.Labels) > 0 || len(step.Labels) > maxLabels {
					t.Fatalf("%s: step %d is %+v", selector, i, step)
				}
			}
			states := make([]State, len(p.Steps))
			for rounds := 0; len(Ready(p, states)) > 0; rounds++ {
				if rounds > len(p.Steps) {
					t.Fatalf("%s: ready without end", selector)
				}
				for _, step := range Ready(p, states) {
					states[step.Index] = Done()
				}
			}
			file.For(selector.Type, selector.Pattern)
		}
		file.Triggers()
	})
}

func FuzzFor(f *testing.F) {
	f.Add("feature/*", "feature/a")
	f.Add("{a,b{c,d}}**?", "bc")
	f.Add("}{,", "x")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g := newGlob(pattern)
		if !g.matches(pattern) {
			t.Fatal("a pattern does not match itself as a name")
		}
		g.matches(name)
		if g.beats(g, name) {
			t.Fatal("a pattern beats itself")
		}
	})
}
