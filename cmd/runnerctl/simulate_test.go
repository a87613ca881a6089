package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

const steps = `arrival,duration,labels,pipeline,step,after
10m,5m,self.hosted builds,1,Build,
,2m,self.hosted builds,1,Test,Build
,2m,self.hosted builds,1,Scan,Build
30m,1m,self.hosted builds,2,Build,
`

const twoGroups = `groups:
  - name: by queue
    workspace: acme
    labels: [builds]
    strategy: queuedSteps
    parameters: {min: 1, max: 5}
`

// inFile writes a file of a test.
func inFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configurationsOf are the first words of the lines of a table.
func configurationsOf(table string) (names []string) {
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if name, _, _ := strings.Cut(line, "  "); i > 0 {
			names = append(names, name)
		}
	}
	return names
}

func TestSimulateComparesTheStrategiesWithTheIncumbentAndTheBound(t *testing.T) {
	got := runs(t, nil, "", "simulate", "--synthetic", "day", "--steps", "100", "--price-per-hour", "0.1")
	want := []string{"percentageRunnersIdle", "queuedSteps", "queuedSteps, lookAhead", "queuedSteps, spare 2", "runners-autoscaler, 600 s", "runners-autoscaler, 120 s", "clairvoyant"}
	if diff := cmp.Diff(want, configurationsOf(got.stdout)); diff != "" || got.code != 0 || !strings.Contains(got.stdout, "COST") {
		t.Errorf("exit code %d, configurations (-want +got):\n%s\n%s", got.code, diff, got.printed())
	}
	if again := runs(t, nil, "", "simulate", "--synthetic", "day", "--steps", "100", "--price-per-hour", "0.1"); again != got {
		t.Error("the same command line has given something else")
	}
	if other := runs(t, nil, "", "simulate", "--synthetic", "day", "--steps", "100", "--price-per-hour", "0.1", "--seed", "2"); other.stdout == got.stdout {
		t.Error("another seed has given the same")
	}
	if busy := runs(t, nil, "", "simulate", "--synthetic", "day", "--steps", "2500", "--webhooks=false", "--compare=false"); !strings.Contains(busy.stderr, "note: queuedSteps: up to ") {
		t.Errorf("nothing is said of the calls that are not allowed: %s", busy.printed())
	}
	alone := runs(t, nil, "", "simulate", "--synthetic", "day", "--steps", "100", "--compare=false")
	if diff := cmp.Diff(want[:4], configurationsOf(alone.stdout)); diff != "" {
		t.Errorf("alone (-want +got):\n%s", diff)
	}
}

func TestSimulateRunsAWorkloadOfAFileWithEachConfiguration(t *testing.T) {
	load, first := inFile(t, "steps.csv", steps), inFile(t, "first.yaml", twoGroups)
	second := inFile(t, "second.yaml", strings.Replace(twoGroups, "{min: 1, max: 5}", "{min: 1, max: 5, look_ahead: 40s}", 1))
	got := runs(t, nil, "", "simulate", "-f", first, "-f", second, "--workload", load, "--compare=false", "-o", "json")
	var document struct {
		Steps   int
		Results []struct {
			Configuration string
			Done          int
			WaitSeconds   map[string]float64
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &document); err != nil || got.code != 0 {
		t.Fatalf("exit code %d, %v:\n%s", got.code, err, got.printed())
	}
	if document.Steps != 4 || len(document.Results) != 2 || document.Results[0].Configuration != "first.yaml" || document.Results[1].Configuration != "second.yaml" || document.Results[1].Done != 4 {
		t.Errorf("got %+v, want 4 steps with both files", document)
	}
	// One of the two tests takes the runner of the build, the other one needs a new runner. Nothing is
	// known of how long a build takes, so that looking ahead does not help.
	if wait := document.Results[0].WaitSeconds["max"]; wait < 30 || wait > 36 {
		t.Errorf("the longest wait is %v s, want a poll and a boot", wait)
	}
	gpu := runs(t, nil, strings.Replace(steps, "30m,1m,self.hosted builds", "30m,1m,gpu", 1), "simulate", "-f", first, "--workload", "-", "--compare=false")
	if !strings.Contains(gpu.stderr, "note: first.yaml: 1 step failed because no group serves the labels\n") {
		t.Errorf("nothing is said of the step that no group serves: %s", gpu.printed())
	}
	saved := filepath.Join(t.TempDir(), "saved.csv")
	plain := runs(t, nil, "", "simulate", "--workload", load, "--save", saved)
	again := runs(t, nil, "", "simulate", "--workload", saved)
	if plain.code != 0 || plain.stdout != again.stdout {
		t.Errorf("a saved workload gives something else: %s\n%s", plain.printed(), again.printed())
	}
}

func TestSimulateDrawsWhatItPrints(t *testing.T) {
	for name, begin := range map[string]string{"plot.svg": "<?xml", "plot.png": "\x89PNG"} {
		path := filepath.Join(t.TempDir(), name)
		got := runs(t, nil, steps, "simulate", "--workload", "-", "--plot", path)
		drawn, err := os.ReadFile(path)
		if err != nil || got.code != 0 || !bytes.HasPrefix(drawn, []byte(begin)) {
			t.Errorf("%s: exit code %d, %v, begins with %q\n%s", name, got.code, err, drawn[:min(len(drawn), 8)], got.printed())
		}
	}
}

func TestSimulateReportsAllFaultsAtOnce(t *testing.T) {
	got := runs(t, nil, "", words("simulate --synthetic noon --steps 0 --boot soon --plot x.gif --stop -1s -f a -f b --recommend --price-per-hour -1")...)
	for _, want := range []string{
		`--synthetic: "noon", want steady, bursty, day or monorepo`, `--steps: "0", want a whole number, at least 1`, `--boot: "soon", want a duration above 0`, `--stop: "-1s", want a duration`,
		`--plot: "x.gif", want a name that ends in .svg or .png`, "workload: 0 given, want one of --workload, --synthetic or --workspace", "--filename: 2 given, want one at most with --recommend",
		"--price-per-hour: -1, want at least 0",
	} {
		if !strings.Contains(got.stderr, want) || got.code != 2 {
			t.Errorf("exit code %d, %q is missing in\n%s", got.code, want, got.stderr)
		}
	}
	load := inFile(t, "bad.csv", "arrival,duration,labels\nsoon,1m,x\n1m,long,X\n")
	got = runs(t, nil, "", "simulate", "--workload", load)
	for _, want := range []string{`line 2: arrival: "soon"`, `line 3: duration: "long"`, `line 3: labels: "X"`} {
		if !strings.Contains(got.stderr, want) || got.code != 1 {
			t.Errorf("exit code %d, %q is missing in\n%s", got.code, want, got.stderr)
		}
	}
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"simulate --workload /not/there":                             {2, "/not/there"},
		"simulate --synthetic day --steps 100001 --days 5":           {2, "--steps: 100001 on 5 days, want at most 500000 altogether"},
		"simulate --workload - -f -":                                 {2, "want stdin for one file"},
		"simulate --synthetic day --steps 5 -f " + load:              {1, "bad.csv"},
		"simulate --synthetic day --steps 5 --labels windows":        {2, "no runner group can serve steps with the labels windows"},
		"simulate --synthetic day --steps 5 --plot /not/there/x.svg": {2, "--plot: "},
	} {
		if got := runs(t, nil, "", words(line)...); got.code != want.code || !strings.Contains(got.stderr, want.says) {
			t.Errorf("%s: exit code %d, want %d and %q in\n%s", line, got.code, want.code, want.says, got.stderr)
		}
	}
}

func TestSimulateRecommendsAConfigurationThatLintAccepts(t *testing.T) {
	load := inFile(t, "steps.csv", steps)
	file := inFile(t, "groups.yaml", strings.Replace(twoGroups, "labels: [builds]", "labels: [builds, more]\n    repositories: [app]\n    credentials: other", 1))
	for name, args := range map[string][]string{"of a file": {"-f", file}, "of the labels": nil} {
		got := runs(t, nil, "", append([]string{"simulate", "--workload", load, "--recommend", "--p95-wait", "40s", "--evaluations", "20"}, args...)...)
		if got.code != 0 || !strings.Contains(got.stderr, "The cheapest settings for each wait:") {
			t.Fatalf("%s: exit code %d:\n%s", name, got.code, got.printed())
		}
		if linted := runs(t, nil, got.stdout, "lint", "-"); linted.code != 0 {
			t.Errorf("%s: lint: %s\n%s", name, linted.printed(), got.stdout)
		}
		simulated := runs(t, nil, got.stdout, "simulate", "-f", "-", "--workload", load, "--compare=false")
		if simulated.code != 0 || len(configurationsOf(simulated.stdout)) != 1 {
			t.Errorf("%s: simulated again: %s", name, simulated.printed())
		}
		for _, kept := range []string{"labels: [builds, more]", "credentials: other"} {
			if args != nil && !strings.Contains(got.stdout, kept) {
				t.Errorf("%s: %q is missing in\n%s", name, kept, got.stdout)
			}
		}
	}
	got := runs(t, nil, "", "simulate", "--workload", load, "--recommend", "--p95-wait", "0s", "--max", "1", "--evaluations", "5")
	if got.code != 1 || !strings.Contains(got.stderr, "keeps the p95 of the wait within 0s") || !strings.Contains(got.stdout, "groups:") {
		t.Errorf("exit code %d, want 1 and the best that there is:\n%s", got.code, got.printed())
	}
}

func TestSimulateReadsThePipelinesOfARepository(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now().Add(-2 * time.Hour))
	server := emulator.New(emulator.Options{AssignLag: -1, ParseLag: -1, Clock: clock, OfflineAfter: 24 * time.Hour})
	http := httptest.NewServer(server)
	defer func() { http.Close(); server.Close() }()
	control := emulator.NewControl(http.URL)
	client, err := bitbucket.NewClient(bitbucket.Config{BaseURL: http.URL, Credentials: bitbucket.Credentials{AccessToken: emulator.AccessToken}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	runner, err := client.CreateRunner(t.Context(), bitbucket.Scope{Workspace: "acme"}, bitbucket.NewRunner{Name: "one", Labels: []string{"self.hosted", "linux", "builds"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := control.SetRunner(t.Context(), runner.UUID, emulator.ActionOnline, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Push(t.Context(), emulator.PushRequest{
		Workspace: "acme", Repository: "app", Branch: "main", File: "pipelines: {default: [step: {name: Build, runs-on: [self.hosted, builds], script: [make]}]}",
	}); err != nil {
		t.Fatal(err)
	}
	clock.Step(10 * time.Minute)
	if err := control.SetRunner(t.Context(), runner.UUID, emulator.ActionIdle, ""); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{"BITBUCKET_ACCESS_TOKEN": emulator.AccessToken}
	at := []string{"--bitbucket-url", http.URL, "--bitbucket-oauth-url", http.URL + "/site/oauth2/access_token"}
	saved := filepath.Join(t.TempDir(), "app.csv")
	got := runs(t, environment, "", append([]string{"simulate", "--workspace", "acme", "--repository", "app", "--save", saved}, at...)...)
	if got.code != 0 || !strings.Contains(got.stderr, "note: 1 pipeline in 3 calls\n") || len(configurationsOf(got.stdout)) != 7 || strings.Contains(got.printed(), emulator.AccessToken) {
		t.Errorf("exit code %d:\n%s", got.code, got.printed())
	}
	if csv, err := os.ReadFile(saved); err != nil || !strings.Contains(string(csv), ",10m0s,self.hosted builds,app,1,default,Build,\n") {
		t.Errorf("%v, saved:\n%s", err, csv)
	}
	none := runs(t, nil, "", append([]string{"simulate", "--workspace", "acme"}, at...)...)
	if none.code != 2 || !strings.Contains(none.stderr, "no credentials") {
		t.Errorf("without credentials: exit code %d:\n%s", none.code, none.stderr)
	}
}
