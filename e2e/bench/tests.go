package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/e2e/bench/document"
)

// attributes are what tests report of themselves with Attr, by their key.
type attributes map[string]string

// attributesOf reads them from the output of go test -json.
func attributesOf(from io.Reader) (attributes, error) {
	found := attributes{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct{ Action, Key, Value string }
		if json.Unmarshal(lines.Bytes(), &event) == nil && event.Action == "attr" {
			found[event.Key] = event.Value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the output of go test: %w", err)
	}
	return found, nil
}

// row is a row about what a test has reported.
func (a attributes) row(what, goal, reference, key string) document.Row {
	row := document.Row{What: what, Goal: goal, Reference: reference, Measured: a[key]}
	if row.Measured == "" {
		row.Measured, row.Missed = notMeasured, notMeasured+"."
	}
	return row
}

// atMost is a row about a number that a test has reported, with its unit, if any.
func (a attributes) atMost(what, goal, reference, key string, most float64) document.Row {
	row := a.row(what, goal, reference, key)
	number, _, _ := strings.Cut(row.Measured, " ")
	if value, err := strconv.ParseFloat(number, 64); row.Missed == "" && (err != nil || value > most) {
		row.Missed = row.Measured + " instead of " + goal + "."
	}
	return row
}

// reaction is a row about the time from a step that waits to its Job.
func (a attributes) reaction(what, most, key string) document.Row {
	p50, ok := a["reaction-"+key+"-p50"]
	if !ok {
		p50 = notMeasured
	}
	row := a.row(what+": p95", most, "p50: "+p50, "reaction-"+key+"-p95")
	took, err := time.ParseDuration(row.Measured)
	bound, isGoal := time.ParseDuration(strings.ReplaceAll(most, " ", ""))
	if err == nil && isGoal == nil && took > bound {
		row.Missed = fmt.Sprintf("%v instead of %s.", took, most)
	}
	return row
}

// calls runs the tests that count calls to Bitbucket, on a virtual clock.
func (r *run) calls(ctx context.Context) error {
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-json", "-run", "^(TestTenGroupsCostOneListPerMinute|TestAPipelineCostsThreeCallsWhateverItsLength|TestAnEphemeralRunnerCostsFourCalls|TestWithLookAheadAFanOutFindsItsRunners)$", "./externalscaler/controlplane")
	test.Dir = r.root
	out, failed := test.Output()
	found, err := attributesOf(bytes.NewReader(out))
	if err != nil {
		return err
	}
	if len(found) == 0 { // else a bound is exceeded, and the page shows by how much
		return fmt.Errorf("go test: %w: %s", failed, out)
	}
	ephemeral := found.row("calls per life of an ephemeral runner, plus shared lists", "3", "the least: register, disable, delete", "calls-per-ephemeral-runner")
	if each, err := strconv.ParseFloat(ephemeral.Measured, 64); err != nil || each > 3 {
		ephemeral.Missed = ephemeral.Measured + " instead of 3. The fourth call reads the disabled runner once its sidecar has reported the end of its step, and only then it is ended: the report does not prove that Bitbucket has the step's result. " +
			"Waiting for the next list instead would save the call, and keep the runner and its place among the 100 for up to a minute longer."
	}
	return r.write("calls", document.Part{
		Title: "Calls to Bitbucket", About: "The real control plane with its defaults against the emulator, on a virtual clock. These tests run with all others, and fail if there are more calls.",
		Rows: []document.Row{
			found.atMost("calls to Bitbucket, steady, 10 groups and 100 runners in one workspace", "60 per hour", "one list per minute", "calls-per-hour", 60),
			found.atMost("calls per pipeline with `queuedSteps`, six steps on our runners", "3", "the least: the pipeline, its file, its steps", "calls-per-pipeline", 3),
			ephemeral,
			found.row("fan-out of 10 after a build step, `lookAhead`, a runner that starts in 20 s: median wait", "0 s", found["fan-out-without-look-ahead"]+" without `lookAhead`", "fan-out-with-look-ahead"),
		},
	})
}

// cluster takes what the tests on the local cluster have reported.
func (r *run) cluster(context.Context) error {
	file, err := os.Open(r.from)
	if err != nil {
		return fmt.Errorf("-from: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	found, err := attributesOf(file)
	if err != nil {
		return err
	}
	return r.write("cluster", document.Part{
		Title: "On a real cluster", About: "Real KEDA and a real API server. From the moment at which a step begins to wait until its Job is created; and 50 steps of three groups at once, " +
			"the time from the first Job until the last one. The tests fail if a goal is missed.",
		Command: "`E2E_FULL=1 go -C e2e test -count=1 -timeout 90m -json -run 'TestLong(Reaction|FiftySteps)' ./suite`, whose output `go -C e2e run ./bench -only cluster -from FILE` reads",
		Rows: []document.Row{
			found.reaction("a step waits until its Job is created, webhook, KEDA polls every 5 s", "6 s", "webhook-5s"),
			found.reaction("the same, KEDA polls every 2 s", "3 s", "webhook-2s"),
			found.reaction("the same, by the report of a runner, 5 s", "6 s", "report-of-a-runner-5s"),
			found.reaction("the same, by the report of a runner, 2 s", "3 s", "report-of-a-runner-2s"),
			found.reaction("the same, without webhooks, 5 s", "-", "polls-alone-5s"),
			found.reaction("the same, without webhooks, 2 s", "-", "polls-alone-2s"),
			found.row("1 to 50 runners for 50 waiting steps, with webhooks: from the first Job to the last", "one KEDA poll", cmp.Or(found["fifty-steps-first-Job"], notMeasured)+" until the first Job", "fifty-steps-span"),
		},
	})
}
