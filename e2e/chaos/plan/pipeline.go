package plan

import (
	"fmt"
	"strings"
	"time"
)

// Shape is the form of a pipeline.
type Shape string

// The shapes of pipelines. All but Bag are pushed as a bitbucket-pipelines.yml, in which earlier
// steps decide when later ones start to wait.
const (
	// Bag has parallel steps only, which wait at once.
	Bag Shape = ""
	// FanOut has a step before and one after its parallel steps.
	FanOut Shape = "fan-out"
	// Gate has a step that a user starts after OpenAfter.
	Gate Shape = "gate"
	// Retry has a step that fails half of the time, and is run again up to two times.
	Retry Shape = "retry"
	// Failure has a step that fails, so that the next ones never wait, except the final step.
	Failure Shape = "failure"
	// Condition has a step that is skipped.
	Condition Shape = "condition"
	// Lock has a deployment, of which a repository has one at a time.
	Lock Shape = "lock"
	// Mixed has a step on Bitbucket's own runners between those of the group.
	Mixed Shape = "mixed"
)

// shapes are those that need a file.
var shapes = []Shape{FanOut, Gate, Retry, Failure, Condition, Lock, Mixed}

// Names of steps whose result is not that they pass. See Results.
const (
	brokenStep = "Broken"
	flakyStep  = "Flaky"
)

// Results returns how often steps of a name fail.
func Results() map[string]float64 { return map[string]float64{brokenStep: 1, flakyStep: 0.5} }

// Pipeline is a pipeline whose steps run on a group.
type Pipeline struct {
	At    time.Duration
	Group int // index of Plan.Groups
	Shape Shape
	// Steps is the number of its parallel steps, or of all steps of a Bag.
	Steps int
	// Duration is the duration of each step.
	Duration time.Duration
	// StopAfter is the time after which the pipeline is cancelled. 0 means never.
	StopAfter time.Duration
	// OpenAfter is the time after which its gate is opened. 0 means never.
	OpenAfter time.Duration
	// Rerun is true if it is run again once it has ended.
	Rerun bool
}

// File returns the bitbucket-pipelines.yml of a pipeline that is not a Bag, for a label. Without a
// label its steps run on Bitbucket's own runners.
func (p Pipeline) File(label string) string {
	runsOn := ""
	if label != "" {
		runsOn = fmt.Sprintf("runs-on: [self.hosted, linux, %s], ", label)
	}
	step := func(name, more string) string {
		return fmt.Sprintf("step: {name: %s, %s%sscript: [sleep %d]}", name, runsOn, more, int(p.Duration.Seconds()))
	}
	parallel := make([]string, p.Steps)
	for i := range parallel {
		parallel[i] = step(fmt.Sprintf("Test %d", i+1), "")
	}
	fan := "parallel: [" + strings.Join(parallel, ", ") + "]"
	steps := map[Shape][]string{
		FanOut:    {step("Build", ""), fan, step("Publish", "")},
		Gate:      {step("Build", ""), step("Deploy", "trigger: manual, "), step("Check", "")},
		Retry:     {step(flakyStep, "on-fail: {strategy: retry, max-retries: 2}, "), fan},
		Failure:   {step("Build", ""), step(brokenStep, ""), fan, "final: " + strings.TrimPrefix(step("Clean", ""), "step: ")},
		Condition: {step("Build", ""), step("Docs", `condition: {changesets: {includePaths: ["docs/**"]}}, `), fan},
		Lock:      {step("Build", ""), step("Deploy", "deployment: production, "), step("Check", "")},
		Mixed:     {step("Build", ""), "step: {name: Scan, script: [sleep 5]}", fan},
	}[p.Shape]
	return "pipelines: {default: [" + strings.Join(steps, ", ") + "]}\n"
}

func (p Pipeline) String() string {
	text := fmt.Sprintf("%d steps of %v", p.Steps, p.Duration)
	if p.Shape != Bag {
		text = fmt.Sprintf("%s pipeline with %s", p.Shape, text)
	}
	if p.OpenAfter > 0 {
		text += fmt.Sprintf(", gate opened after %v", p.OpenAfter)
	}
	if p.StopAfter > 0 {
		text += fmt.Sprintf(", stopped after %v", p.StopAfter)
	}
	if p.Rerun {
		text += ", run again"
	}
	return text
}
