package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const pipelinesFile = `definitions:
  imports: {shared: .ci/shared-pipelines.yml, gone: gone-pipelines.yml, outside: ../outside-pipelines.yml}
pipelines:
  default:
    import: check@shared
  branches:
    main:
      - step: {name: Build, runs-on: [self.hosted, builds], script: [make]}
      - parallel:
          - step: {name: Test, runs-on: [self.hosted, bulds], script: [t]}
          - step: {name: Test, runs-on: [self.hosted, linux.arm64, builds], script: [t]}
      - step: {script: [scan]}
      - step: {name: Deploy, trigger: manual, deployment: production, runs-on: [self.hosted, deploy, large], script: [d]}
      - final: {name: Clean, runs-on: [self.hosted, builds], script: [c]}
    feature/*:
      - step: {name: Check, condition: {changesets: {includePaths: [a]}}, runs-on: [self.hosted, builds], script: [c]}
      - step: {name: Variable, runs-on: [self.hosted, $X], script: [c]}
      - step: {name: Child, type: pipeline, custom: nightly}
  custom:
    nightly: {import: nightly@gone}
    elsewhere: {import: a:b:c}
`

const pipelinesGroups = `groups:
- {name: builds, workspace: acme, labels: [builds], namespace: ci}
- {name: aaa, workspace: acme, labels: [builds, large], namespace: ci}
- {name: deploy-app, workspace: acme, repository: app, labels: [deploy, large], namespace: ci}
- {name: deploy, workspace: acme, labels: [deploy, large], namespace: ci}
- {name: arm, workspace: acme, labels: [builds], architecture: arm64, namespace: ci}
`

// checkout makes the files of a repository and returns their directory.
func checkout(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repository")
	for path, text := range map[string]string{
		"bitbucket-pipelines.yml":   pipelinesFile,
		".ci/shared-pipelines.yml":  "definitions: {pipelines: {check: [step: {name: Imported, runs-on: [self.hosted, builds], script: [c]}]}}\n",
		"../outside-pipelines.yml":  "definitions: {pipelines: {check: [step: {script: [c]}]}}\n",
		"runners_config.yaml":       pipelinesGroups,
		"faulty.yml":                "pipelines:\n  default:\n  - step: {runs-on: {a: b}, script: [a]}\n  custom:\n    ok:\n    - step: {name: Ok, runs-on: x, script: [a]}\n",
		"outside.yml":               "definitions: {imports: {o: ../outside-pipelines.yml}}\npipelines: {default: {import: check@o}}\n",
		"faulty-import.yml":         "definitions: {imports: {o: bad-pipelines.yml}}\npipelines: {default: {import: check@o}}\n",
		"bad-pipelines.yml":         "definitions: {pipelines: {check: []}}\n",
		"served.yml":                "pipelines: {default: [step: {name: Build, runs-on: [self.hosted, builds], script: [a]}]}\n",
		"broken_runners_config.yml": "groups: [{name: a}]\n",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// inCheckout runs `runnerctl pipelines` with the files of a repository.
func inCheckout(t *testing.T, line string) result {
	t.Helper()
	dir := checkout(t)
	args := strings.Fields(strings.ReplaceAll(line, "@", dir+"/"))
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "~", " ")
	}
	r := runs(t, nil, "pipelines: {default: [step: {name: Stdin, runs-on: x, script: [a]}]}", append([]string{"pipelines"}, args...)...)
	r.stdout, r.stderr = strings.ReplaceAll(r.stdout, dir+"/", "@"), strings.ReplaceAll(r.stderr, dir+"/", "@")
	return r
}

func TestPipelinesShowsWhatAFileAsksFor(t *testing.T) {
	got := inCheckout(t, "-f @bitbucket-pipelines.yml --groups @runners_config.yaml --done Build --done Imported")
	want := `default
  1  Imported  self.hosted builds (linux)  done  ci/builds

branches:main
  1  Build   self.hosted builds (linux)        done                                                        ci/builds
  2  Test    self.hosted bulds (linux)         waits now                                                   no group; ci/builds lacks bulds (it has builds)
  3  Test    self.hosted linux.arm64 builds    waits now                                                   ci/arm
  4  Step 4  Atlassian's own runners           after 2, 3
  5  Deploy  self.hosted deploy large (linux)  after 4, when a person starts it, locks production          ci/deploy-app
  6  Clean   self.hosted builds (linux)        at the end, even after a failure                            ci/builds

branches:feature/*
  1  Check     self.hosted builds (linux)        if its condition holds  ci/builds
  2  Variable  unknown                           after 1                 runs-on "$X": Bitbucket does not replace variables in labels
  3  Child     no runner: starts custom:nightly  after 2

custom:nightly
  unknown: import nightly@gone: the file gone-pipelines.yml has not been read

custom:elsewhere
  unknown: import a:b:c: it is in another repository
`
	if squeeze(got.stdout) != squeeze(want) || got.code != 1 || got.stderr != "runnerctl: pipelines: 5 pipelines, 10 steps: no group serves 1 step\n" {
		t.Errorf("code %d, %q\n%s", got.code, got.stderr, cmp.Diff(squeeze(want), squeeze(got.stdout)))
	}
}

// squeeze replaces runs of spaces, so that the tests do not depend on the width of columns.
func squeeze(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestPipelinesPrintsOneObjectPerSelector(t *testing.T) {
	got := inCheckout(t, "-f @bitbucket-pipelines.yml --groups @runners_config.yaml --done Build --done Test --done Check -o json --selector branches:main --selector branches:feature/x --selector custom:elsewhere")
	wait := func(step stepView) stepView { step.Waits = true; return step }
	want := []pipelineView{
		{selectorView{"branches", "main"}, "", []stepView{
			{Name: "Build", Labels: []string{"self.hosted", "builds"}, Group: "ci/builds"},
			{Name: "Test", Labels: []string{"self.hosted", "bulds"}},
			wait(stepView{Name: "Test", Labels: []string{"self.hosted", "linux.arm64", "builds"}, Group: "ci/arm"}),
			{Name: "Step 4", Labels: []string{}},
			{Name: "Deploy", Labels: []string{"self.hosted", "deploy", "large"}, Manual: true, Group: "ci/deploy-app"},
			{Name: "Clean", Labels: []string{"self.hosted", "builds"}, Group: "ci/builds"},
		}},
		{selectorView{"branches", "feature/*"}, "", []stepView{
			{Name: "Check", Labels: []string{"self.hosted", "builds"}, Conditional: true, Group: "ci/builds"},
			{Name: "Variable", Labels: []string{}, Unknown: `runs-on "$X": Bitbucket does not replace variables in labels`},
			{Name: "Child", Labels: []string{}},
		}},
		{selectorView{"custom", "elsewhere"}, "import a:b:c: it is in another repository", []stepView{}},
	}
	var shown []pipelineView
	for line := range strings.Lines(got.stdout) {
		var one pipelineView
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		shown = append(shown, one)
	}
	if diff := cmp.Diff(want, shown); diff != "" || got.code != 1 {
		t.Errorf("code %d, wanted -, got +:\n%s", got.code, diff)
	}
	if strings.Contains(got.stdout, "null") {
		t.Errorf("null in %s", got.stdout)
	}
}

func TestPipelinesExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		line, printed string
		code          int
	}{
		"all is served":              {"-f @served.yml --groups @runners_config.yaml", "1 pipeline, 1 step: 1 would wait for a runner", 0},
		"nothing is asked of groups": {"-f @bitbucket-pipelines.yml", "5 pipelines, 10 steps: 2 would wait for a runner", 0},
		"from stdin":                 {"-f -", "Stdin", 0},
		"a step that nobody serves":  {"-f @bitbucket-pipelines.yml --groups @runners_config.yaml --selector branches:main", "no group serves 1 step", 1},
		"a faulty file":              {"-f @faulty.yml", "line 3: pipelines.default[0].step.runs-on: \"a mapping\", want a label", 1},
		"the rest of a faulty file":  {"-f @faulty.yml --selector custom:ok", "1  Ok", 1},
		"a faulty import":            {"-f @faulty-import.yml", "bad-pipelines.yml:\nline 1: definitions.pipelines.check: want at least one step", 1},
		"not there":                  {"-f @../repository/nothing.yml", "no such file", 2},
		"faulty groups":              {"-f @served.yml --groups @broken_runners_config.yml", "groups[0].workspace", 1},
		"no groups file":             {"-f @served.yml --groups @nothing.yml", "no such file", 2},
		"something unknown":          {"-f @bitbucket-pipelines.yml --groups @runners_config.yaml --selector custom:elsewhere", "1 unknown", 2},
		"unknown without groups":     {"-f @bitbucket-pipelines.yml --selector custom:elsewhere", "unknown: import a:b:c", 0},
		"outside of the repository":  {"-f @outside.yml", "path escapes from parent", 2},
		"no such pipeline":           {"-f @served.yml --selector tags:v1", "--selector: @served.yml has no pipeline tags:v1, want default", 2},
		"no such type":               {"-f @served.yml --selector branch:main", "--selector: \"branch:main\", want one of default, branches", 2},
		"no pattern":                 {"-f @served.yml --selector custom", "want custom:PATTERN", 2},
		"a branch without pattern":   {"-f @served.yml --selector branches:main", "default", 0},
		"no such step":               {"-f @served.yml --done Buld", "no unfinished step is called \"Buld\", did you mean \"Build\"?", 2},
		"a step that is done":        {"-f @served.yml --done Build --done Build", "no unfinished step is called \"Build\"\n", 2},
		"an unnamed step":            {"-f @bitbucket-pipelines.yml --selector branches:main --done Step~4", "4  Step 4  Atlassian's own runners         done", 0},
		"no file":                    {"", "--filename: missing", 2},
		"stdin twice":                {"-f - --groups -", "want stdin for one of them", 2},
		"arguments":                  {"-f @served.yml more", "want none, only flags", 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := inCheckout(t, c.line); got.code != c.code || !strings.Contains(squeeze(got.printed()), squeeze(c.printed)) {
				t.Errorf("code %d, want %d; printed %s, want %s", got.code, c.code, got.printed(), c.printed)
			}
		})
	}
}
