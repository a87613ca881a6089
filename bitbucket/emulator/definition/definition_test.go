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
    - parallel:
        fail-fast: true
        steps:
          - step: {<<: *test, name: Again}
    - stage:
        trigger: manual
        steps:
          - step: {name: Ship, deployment: production, script: [ship]}
          - step: {name: Check, trigger: manual, deployment: production, concurrency-group: x, script: [check]}
  branches:
    "release/*":
      - step: {name: Release, script: [x]}
    "{main,master}":
      - step: {name: Main, script: [x]}
    "**":
      - step: {name: Any, script: [x]}
  tags:
    v1: [step: {name: Tag, script: [x]}]
  pull-requests:
    "feature/*": [step: {name: Pull, script: [x]}]
  custom:
    nightly:
      - variables: [{name: WHAT}]
      - step: {name: Nightly, script: [x]}
`

func TestStepsAreReadInOrder(t *testing.T) {
	t.Parallel()
	got, err := Read([]byte(example), Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	everywhere := []string{"self.hosted", "everywhere"}
	want := Pipeline{Selector: Selector{Type: SelectDefault}, Groups: [][]Step{
		{{Name: "Build", Labels: []string{"self.hosted", "1.0"}, Script: []string{"sleep 1.5", "sleep 2"}, Duration: 3500 * time.Millisecond}},
		{{Name: "Test", Labels: []string{"self.hosted"}, Script: []string{"make test"}}, {Labels: everywhere, Script: []string{"echo"}}},
		{{Name: "Again", Labels: []string{"self.hosted"}, Script: []string{"make test"}}},
		{{Name: "Ship", Labels: everywhere, Manual: true, Lock: "deployment production", Script: []string{"ship"}}},
		{{Name: "Check", Labels: everywhere, Manual: true, Lock: "concurrency-group x", Script: []string{"check"}}},
	}}
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
		"default":                {Wanted{}, "Build"},
		"branch, first pattern":  {Wanted{RefType: "branch", RefName: "release/1"}, "Release"},
		"branch, alternatives":   {Wanted{RefType: "branch", RefName: "master"}, "Main"},
		"branch, any":            {Wanted{RefType: "named_branch", RefName: "a/b/c"}, "Any"},
		"tag":                    {Wanted{RefType: "tag", RefName: "v1"}, "Tag"},
		"tag without pipeline":   {Wanted{RefType: "tag", RefName: "v2"}, ""},
		"pull request":           {Wanted{RefType: "pullrequest", RefName: "feature/x"}, "Pull"},
		"custom":                 {Wanted{Selector: Selector{SelectCustom, "nightly"}, RefType: "branch", RefName: "main"}, "Nightly"},
		"custom that is missing": {Wanted{Selector: Selector{SelectCustom, "daily"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Read([]byte(example), c.want)
			if c.step == "" {
				if !errors.Is(err, ErrNoPipeline) {
					t.Errorf("got %v, want ErrNoPipeline", err)
				}
				return
			}
			if err != nil || got.Groups[0][0].Name != c.step {
				t.Errorf("got %+v, %v, want %s first", got.Groups, err, c.step)
			}
		})
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	t.Parallel()
	step := "    - step: {script: [x]}\n"
	for name, file := range map[string]string{
		"no YAML":           "pipelines: [",
		"import":            "pipelines:\n  default: shared@main\n",
		"no step":           "pipelines:\n  default:\n    - variables: []\n",
		"101 steps":         "pipelines:\n  default:\n" + strings.Repeat(step, 101),
		"first step manual": "pipelines:\n  default:\n    - step: {trigger: manual, script: [x]}\n",
		"eleven labels":     "pipelines:\n  default:\n    - step: {runs-on: [a,b,c,d,e,f,g,h,i,j,k], script: [x]}\n",
		"long label":        fmt.Sprintf("pipelines:\n  default:\n    - step: {runs-on: %s, script: [x]}\n", strings.Repeat("l", 51)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := Read([]byte(file), Wanted{}); err == nil || errors.Is(err, ErrNoPipeline) {
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
		p, err := Read([]byte(file), Wanted{RefType: refType, RefName: name, Selector: Selector{selector, name}})
		if err != nil {
			return
		}
		steps := 0
		for _, group := range p.Groups {
			steps += len(group)
		}
		if steps < 1 || steps > MaxSteps {
			t.Errorf("%d steps", steps)
		}
	})
}
