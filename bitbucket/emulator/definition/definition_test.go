package definition

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const example = `
options:
  runs-on: [self.hosted, everywhere]
definitions:
  steps:
    - step: &test
        name: Test
        runs-on: self.hosted
        script: [make test]
pipelines:
  default:
    - step:
        name: Build
        runs-on: [self.hosted, "1.0"]
        script:
          - sleep 1.5
          - pipe: some/pipe:1
          - sleep 2
    - parallel:
        - step: *test
        - step:
            script: [echo]
    - final: {name: Clean up, runs-on: [], script: [x]}
    - parallel:
        fail-fast: true
        on-fail: {strategy: ignore}
        steps:
          - step: {<<: *test, name: Again}
          - step: {name: Slow, fail-fast: false, on-fail: {strategy: retry, max-retries: 3}, script: [x]}
    - stage:
        name: Deploy
        trigger: manual
        deployment: production
        condition: {changesets: {includePaths: [src/**], excludePaths: ["*.md"]}}
        steps:
          - step: {name: Ship, deployment: eu, script: [ship]}
          - parallel:
              - step: {name: Check, trigger: manual, concurrency-group: x, condition: {state: a == b}, script: [check]}
              - step: {name: Watch, type: pipeline, custom: nightly}
  branches:
    "**":
      - step: {name: Any, script: [x]}
    "release/*":
      - step: {name: Release, script: [x]}
    "{main,master}":
      - step: {name: Main, script: [x]}
    "release/1":
      - step: {name: One, script: [x]}
  tags:
    v1: [step: {name: Tag, script: [x]}]
  pull-requests:
    "feature/*": [step: {name: Pull, script: [x]}]
  custom:
    nightly:
      - variables: [{name: WHAT, default: all}, {name: WHO}]
      - step: {name: Nightly, script: [x]}
`

// read reads one pipeline.
func read(text string, want Wanted, files Files) (Pipeline, error) {
	f, err := Parse([]byte(text), files)
	if err != nil {
		return Pipeline{}, err
	}
	return f.Pipeline(want)
}

func TestStepsAreReadWithWhatHoldsThemBack(t *testing.T) {
	t.Parallel()
	got, err := read(example, Wanted{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	everywhere := []string{"self.hosted", "everywhere"}
	deploy := Lock{"deployment production", 2}
	changes := &Condition{Changes: true, Include: []string{"src/**"}, Exclude: []string{"*.md"}}
	want := Pipeline{
		Selector: Selector{Type: SelectDefault},
		Steps: []Step{
			{Name: "Build", Labels: []string{"self.hosted", "1.0"}, Stops: -1, Script: []string{"sleep 1.5", "sleep 2"}, Duration: 3500 * time.Millisecond, Sleeps: true},
			{Name: "Test", Labels: []string{"self.hosted"}, After: []int{0}, Groups: []int{0}, Stops: -1, Script: []string{"make test"}},
			{Labels: everywhere, After: []int{0}, Groups: []int{0}, Stops: -1, Script: []string{"echo"}},
			{Name: "Again", Labels: []string{"self.hosted"}, After: []int{1, 2}, Groups: []int{1}, Stops: 1, Failure: Failure{Ignore: true}, Script: []string{"make test"}},
			{Name: "Slow", Labels: everywhere, After: []int{1, 2}, Groups: []int{1}, Stops: -1, Failure: Failure{Retries: 3}, Script: []string{"x"}},
			{Name: "Ship", Labels: everywhere, After: []int{3, 4}, Groups: []int{2}, Stops: -1, Locks: []Lock{deploy, {"deployment eu", -1}}, Script: []string{"ship"}},
			{Name: "Check", Labels: everywhere, After: []int{5}, Groups: []int{2, 3}, Stops: -1, Manual: true, When: &Condition{State: "a == b"},
				Locks: []Lock{deploy, {"concurrency-group x", -1}}, Script: []string{"check"}},
			{Name: "Watch", After: []int{5}, Groups: []int{2, 3}, Stops: -1, Locks: []Lock{deploy}, Child: "nightly"},
			{Name: "Clean up", Labels: []string{}, After: []int{0, 1, 2, 3, 4, 5, 6, 7}, Stops: -1, Final: true, Script: []string{"x"}},
		},
		Groups: []Group{
			{Parallel: true, Steps: []int{1, 2}, First: []int{1, 2}},
			{Parallel: true, Steps: []int{3, 4}, First: []int{3, 4}},
			{Name: "Deploy", Manual: true, When: changes, Steps: []int{5, 6, 7}, First: []int{5}},
			{Parallel: true, Steps: []int{6, 7}, First: []int{6, 7}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSelectorOrRefDecidesWhichPipeline(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want Wanted
		step string
	}{
		"default":                     {Wanted{}, "Build"},
		"branch, exact name":          {Wanted{RefType: "branch", RefName: "release/1"}, "One"},
		"branch, more specific":       {Wanted{RefType: "branch", RefName: "release/2"}, "Release"},
		"branch, alternatives":        {Wanted{RefType: "branch", RefName: "master"}, "Main"},
		"branch, any":                 {Wanted{RefType: "named_branch", RefName: "a/b/c"}, "Any"},
		"bookmark, default":           {Wanted{RefType: "bookmark", RefName: "a/b/c"}, "Build"},
		"tag":                         {Wanted{RefType: "tag", RefName: "v1"}, "Tag"},
		"tag without pipeline":        {Wanted{RefType: "tag", RefName: "v2"}, ""},
		"pull request":                {Wanted{RefType: "pullrequest", RefName: "feature/x"}, "Pull"},
		"pull request without one":    {Wanted{RefType: "pullrequest", RefName: "x"}, ""},
		"custom":                      {Wanted{Selector: Selector{SelectCustom, "nightly"}, RefType: "branch", RefName: "main"}, "Nightly"},
		"custom that is missing":      {Wanted{Selector: Selector{SelectCustom, "daily"}}, ""},
		"a selector that nobody made": {Wanted{Selector: Selector{"surprises", "daily"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := read(example, c.want, nil)
			if c.step == "" {
				if !errors.Is(err, ErrNoPipeline) {
					t.Errorf("got %v, want ErrNoPipeline", err)
				}
				return
			}
			if err != nil || got.Steps[0].Name != c.step {
				t.Errorf("got %+v, %v, want %s first", got.Steps, err, c.step)
			}
		})
	}
	if got, _ := read(example, Wanted{Selector: Selector{SelectCustom, "nightly"}}, nil); !cmp.Equal(got.Variables, map[string]string{"WHAT": "all", "WHO": ""}) {
		t.Errorf("variables %v", got.Variables)
	}
}

func TestSectionsMayBeMerged(t *testing.T) {
	t.Parallel()
	const text = `
pipelines:
  branches: &b
    main: [step: {name: Main, script: [x]}]
    "*": [step: {name: Any, script: [x]}]
  tags:
    <<: *b
    "*": [step: {name: Tag, script: [x]}]
`
	for ref, want := range map[string]string{"main": "Main", "v1": "Tag"} {
		if got, err := read(text, Wanted{RefType: "tag", RefName: ref}, nil); err != nil || got.Steps[0].Name != want {
			t.Errorf("%s: %+v, %v, want %s", ref, got.Steps, err, want)
		}
	}
}

// shelf has files by repository, ref and path.
type shelf map[[3]string]string

func (s shelf) Read(repository, ref, path string) ([]byte, bool) {
	text, ok := s[[3]string{repository, ref, path}]
	return []byte(text), ok
}

func TestPipelinesAreImported(t *testing.T) {
	t.Parallel()
	const exported = `
options: {runs-on: [shared]}
definitions:
  pipelines:
    build: [step: {name: %s, script: [x]}]
    again: {import: build@other}
`
	files := shelf{
		{"", "", "ci/shared.yml"}:                    fmt.Sprintf(exported, "Same"),
		{"other", "v1", "bitbucket-pipelines.yml"}:   fmt.Sprintf(exported, "Other"),
		{"other", "main", "bitbucket-pipelines.yml"}: "x: [",
	}
	const file = "definitions: {imports: {shared: ./ci/shared.yml, other: 'other:v1', broken: 'other:main', gone: gone.yml}}\n"
	for from, want := range map[string]string{
		"build@shared": "Same", "build@other": "Other", "other:v1:build": "Other",
		"none@shared": "", "again@shared": "", "build@nobody": "", "build@gone": "", "build@broken": "", "build": "",
	} {
		got, err := read(file+"pipelines: {default: {import: '"+from+"'}}", Wanted{}, files)
		switch {
		case want == "" && (err == nil || errors.Is(err, ErrNoPipeline)):
			t.Errorf("%s: %+v, %v, want an error about the file", from, got.Steps, err)
		case want != "" && (err != nil || got.Steps[0].Name != want || !cmp.Equal(got.Steps[0].Labels, []string{"shared"})):
			t.Errorf("%s: %+v, %v, want %s", from, got.Steps, err, want)
		}
	}
}

func TestRulesStartCustomPipelines(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte("triggers: {repository-push: [{condition: a, pipelines: [x]}, {condition: b, pipelines: [y, z]}, {pipelines: [x]}]}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := f.Triggered("repository-push", func(c string) bool { return c == "b" })
	if want := []Selector{{SelectCustom, "y"}, {SelectCustom, "z"}, {SelectCustom, "x"}}; !cmp.Equal(got, want) {
		t.Errorf("started %v, want %v", got, want)
	}
	if got := f.Triggered("pullrequest-push", func(string) bool { return true }); len(got) > 0 {
		t.Errorf("another event started %v", got)
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	t.Parallel()
	step := "    - step: {script: [x]}\n"
	const list = "pipelines:\n  default:\n"
	for name, file := range map[string]string{
		"no YAML":           "pipelines: [",
		"a key twice":       list + step + "  default:\n" + step,
		"no import":         "pipelines:\n  default: {x: y}\n",
		"nothing to import": "pipelines:\n  default: {import: shared@main}\n",
		"no step":           list + "    - variables: []\n",
		"101 steps":         list + strings.Repeat(step, 101),
		"first step manual": list + "    - step: {trigger: manual, script: [x]}\n",
		"eleven labels":     list + "    - step: {runs-on: [a,b,c,d,e,f,g,h,i,j,k], script: [x]}\n",
		"long label":        list + fmt.Sprintf("    - step: {runs-on: %s, script: [x]}\n", strings.Repeat("l", 51)),
		"label of options":  "options: {runs-on: ['']}\n" + list + step,
		"another trigger":   list + step + "    - step: {trigger: later, script: [x]}\n",
		"another strategy":  list + "    - step: {on-fail: {strategy: hope}, script: [x]}\n",
		"labels of a stage": list + "    - stage: {runs-on: [x], steps: [step: {script: [x]}]}\n",
		"two final steps":   list + step + "    - final: {script: [x]}\n    - final: {script: [x]}\n",
		"child of nothing":  list + "    - step: {type: pipeline}\n",
		"an unknown entry":  list + step + "    - stepp: {script: [x]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := read(file, Wanted{}, nil); err == nil || errors.Is(err, ErrNoPipeline) {
				t.Errorf("got %+v, %v, want an error about the file", got, err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(example, "branch", "main", "")
	f.Add("pipelines: {default: [parallel: [], stage: {steps: []}]}", "", "", "")
	f.Add("pipelines: {custom: {x: [variables: [], step: {script: x}]}}", "", "x", "custom")
	f.Fuzz(func(t *testing.T, file, refType, name, selector string) {
		p, err := read(file, Wanted{RefType: refType, RefName: name, Selector: Selector{selector, name}}, shelf{})
		if err != nil {
			return
		}
		if n := len(p.Steps); n < 1 || n > MaxSteps {
			t.Errorf("%d steps", n)
		}
		for i, st := range p.Steps {
			for _, before := range st.After {
				if before >= i {
					t.Errorf("step %d comes after %d", i, before)
				}
			}
		}
	})
}
