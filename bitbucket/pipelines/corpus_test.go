package pipelines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The corpus is in testdata/corpus. Lines that begin with "#:" have the answers, which were
// worked out by hand from the rules:
//
//	#: pipeline TYPE:PATTERN          the answers that follow are of this pipeline
//	#: order A > (B | C) > <D > E> ! F   a stage is in <>, a parallel group in (), ! is the final step
//	#: step NAME: LABELS; FLAGS       one line per step, in order; cloud stands for no labels
//	#: ready A, B -> C                which steps are ready once A and B have succeeded
//	#: unknown TEXT                   nothing is known, and the reason contains TEXT
//	#: for TYPE NAME -> TYPE:PATTERN  what starts for a branch, a tag or a pull request
//	#: fault LINE TEXT                a fault of that line whose text contains TEXT
//	#: import PATH FILE               another file of the corpus, read as an import
type answer struct{ kind, text string }

func answersOf(text string) []answer {
	var answers []answer
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#: "); ok {
			kind, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
			answers = append(answers, answer{kind, strings.TrimSpace(text)})
		}
	}
	return answers
}

func corpus(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/corpus/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = string(text)
	}
	if len(files) < 60 {
		t.Fatalf("%d files, want at least 60", len(files))
	}
	return files
}

func TestCorpus(t *testing.T) {
	files := corpus(t)
	for name, text := range files {
		t.Run(name, func(t *testing.T) { checkFile(t, files, text) })
	}
}

func checkFile(t *testing.T, files map[string]string, text string) {
	file, err := Parse([]byte(text))
	answers := answersOf(text)
	checkFaults(t, err, answers)
	var p Pipeline
	steps := 0
	ends := func() {
		if steps > 0 && steps != len(p.Steps) {
			t.Errorf("%s: %d steps, want %d", p.Selector, len(p.Steps), steps)
		}
		steps = 0
	}
	for _, a := range answers {
		switch a.kind {
		case "import":
			path, from, _ := strings.Cut(a.text, " ")
			if !slices.Contains(file.Imports(), path) {
				t.Errorf("imports %q, want %s", file.Imports(), path)
			}
			imported, err := Parse([]byte(files[from]))
			if err != nil {
				t.Fatal(err)
			}
			file = file.With(path, imported)
		case "pipeline":
			ends()
			selector, err := ParseSelector(a.text)
			if err != nil {
				t.Fatal(err)
			}
			p = file.Select(selector)
		case "order":
			if got := orderOf(p); got != a.text {
				t.Errorf("%s: order %s, want %s", p.Selector, got, a.text)
			}
		case "step":
			if steps < len(p.Steps) {
				if got := describeStep(p.Steps[steps]); got != a.text {
					t.Errorf("%s: step %s, want %s", p.Selector, got, a.text)
				}
			}
			steps++
		case "ready":
			checkReady(t, p, a.text)
		case "unknown":
			if !strings.Contains(p.Unknown, a.text) || p.Unknown == "" || len(p.Steps) > 0 {
				t.Errorf("%s: unknown %q and %d steps, want %q", p.Selector, p.Unknown, len(p.Steps), a.text)
			}
		case "for":
			ref, want, _ := strings.Cut(a.text, " -> ")
			kind, name, _ := strings.Cut(ref, " ")
			got := "none"
			if selector, ok := file.For(kind, name); ok {
				got = selector.String()
			}
			if got != want {
				t.Errorf("for %s: %s, want %s", ref, got, want)
			}
		case "fault":
		default:
			t.Errorf("unknown answer %s", a.kind)
		}
	}
	ends()
}

// checkFaults wants each fault that is announced and no other.
func checkFaults(t *testing.T, err error, answers []answer) {
	t.Helper()
	var got []string
	for _, fault := range faultsOf(err) {
		got = append(got, fault.Error())
	}
	for _, a := range answers {
		if a.kind != "fault" {
			continue
		}
		line, text, _ := strings.Cut(a.text, " ")
		at := slices.IndexFunc(got, func(fault string) bool {
			return (line == "0" && !strings.HasPrefix(fault, "line ") || strings.HasPrefix(fault, "line "+line+": ")) && strings.Contains(fault, text)
		})
		if at < 0 {
			t.Errorf("no fault of line %s with %q in %q", line, text, got)
			continue
		}
		got = slices.Delete(got, at, at+1)
	}
	if len(got) > 0 {
		t.Errorf("further faults: %q", got)
	}
}

func faultsOf(err error) []*FileError {
	var all []*FileError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			var fault *FileError
			if errors.As(one, &fault) {
				all = append(all, fault)
			}
		}
	}
	return all
}

func orderOf(p Pipeline) string {
	var nodes func([]Node, string) string
	nodes = func(list []Node, separator string) string {
		var texts []string
		for _, node := range list {
			switch node.Kind {
			case OneStep:
				texts = append(texts, p.Steps[node.Step].Title())
			case Parallel:
				texts = append(texts, "("+nodes(node.Nodes, " | ")+")")
			case Stage:
				texts = append(texts, "<"+nodes(node.Nodes, " > ")+">")
			}
		}
		return strings.Join(texts, separator)
	}
	order := nodes(p.Order, " > ")
	if last := len(p.Steps) - 1; last >= 0 && p.Steps[last].Final {
		order += " ! " + p.Steps[last].Title()
	}
	return order
}

func describeStep(s Step) string {
	text := s.Title() + ": "
	switch {
	case s.Unknown != "":
		text += "unknown"
	case len(s.Labels) == 0:
		text += "cloud"
	default:
		text += strings.Join(s.Labels, " ")
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"manual", s.FromHand}, {"conditional", s.Conditional}, {"child of " + s.ChildName, s.Child}, {"fail-fast", s.FailFast},
		{"ignore", s.Failure == Ignore}, {"retry " + strconv.Itoa(s.MaxRetries), s.Failure == Retry}, {"other strategy", s.Failure == OtherStrategy},
		{"deployment " + s.Deployment, s.Deployment != ""}, {"group " + s.ConcurrencyGroup, s.ConcurrencyGroup != ""}, {"final", s.Final},
	} {
		if flag.set {
			text += "; " + flag.name
		}
	}
	return text
}

// mark sets the state of the first step of each title that has not ended.
func mark(t testing.TB, p Pipeline, states []State, titles string, state State) {
	t.Helper()
	for _, title := range strings.Split(titles, ", ") {
		if title == "" {
			continue
		}
		at := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Title() == title && states[s.Index].Name != StateCompleted })
		if at < 0 {
			t.Fatalf("%s: no step %s", p.Selector, title)
		}
		states[at] = state
	}
}

func titles(steps []Step) string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Title())
	}
	return strings.Join(names, ", ")
}

func checkReady(t *testing.T, p Pipeline, text string) {
	t.Helper()
	done, want, found := strings.Cut(text, "->")
	if !found {
		t.Fatalf("ready %q: want done -> ready", text)
	}
	states := make([]State, len(p.Steps))
	mark(t, p, states, strings.TrimSpace(done), Done())
	if got := titles(Ready(p, states)); got != strings.TrimSpace(want) {
		t.Errorf("%s: after %s ready are %s, want %s", p.Selector, done, got, want)
	}
}

func ExampleReady() {
	file, err := Parse([]byte("pipelines:\n  default:\n  - step: {name: Build, runs-on: [self.hosted, builds], script: [make]}\n  - step: {name: Test, runs-on: [self.hosted, tests], script: [make test]}\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	p := file.Select(Selector{Type: Default})
	for _, step := range Ready(p, []State{Done()}) {
		fmt.Println(step.Title(), step.Labels, step.Labels.ServedBy(Runner(Linux, "tests", "large")))
	}
	// Output: Test [self.hosted tests] true
}
