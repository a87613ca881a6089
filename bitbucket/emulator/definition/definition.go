// Package definition reads from a bitbucket-pipelines.yml what the emulator needs to play a
// pipeline: which steps a step comes after, which groups are around it, what holds it back, the
// runners that it wants, and how long it takes. Parse and File.Pipeline are all of it.
//
// The package reads the rules of Bitbucket on its own, and has nothing in common with package
// bitbucket/pipelines: two readings find each other's mistakes. A file that Bitbucket would
// refuse is an error as a whole.
package definition

import (
	"errors"
	"time"
)

// Bitbucket's limits.
const (
	// MaxSteps is the maximum number of steps per pipeline.
	MaxSteps  = 100
	maxLabels = 10
	maxLabel  = 50
)

// ErrNoPipeline means that the file defines no pipeline for what was asked.
var ErrNoPipeline = errors.New("no pipeline is defined for this selector")

// Pipeline is one pipeline of a file.
type Pipeline struct {
	// Selector names it.
	Selector Selector
	// Variables are those of a custom pipeline with their defaults.
	Variables map[string]string
	// Steps are in the order in which Bitbucket lists them. A step comes after its
	// predecessors, and the final step is the last.
	Steps []Step
	// Groups are the stages and parallel groups.
	Groups []Group
}

// Step is one step.
type Step struct {
	// Name may be empty.
	Name string
	// Labels are its runs-on. Without labels it runs on Bitbucket's own runners.
	Labels []string
	// After are the steps that come directly before it. The final step comes after all.
	After []int
	// Groups are the groups around it, the outermost first.
	Groups []int
	// Manual means that a user starts it.
	Manual bool
	// When decides whether it runs. It runs without one.
	When *Condition
	// Locks are held from when the step is reached until it ends.
	Locks []Lock
	// Failure is what becomes of the pipeline if it fails.
	Failure Failure
	// Stops is the group whose other steps its failure stops, or -1.
	Stops int
	// Child is the custom pipeline that the step starts instead of running commands.
	Child string
	// Final means that it runs at the end whatever has happened.
	Final bool
	// Script contains the commands. Pipes are left out.
	Script []string
	// Duration is the sum of the script's sleeps. Sleeps is false if there are none.
	Duration time.Duration
	Sleeps   bool
}

// Group is a stage, whose steps run one after the other, or a parallel group.
type Group struct {
	// Name is that of a stage.
	Name     string
	Parallel bool
	// Manual means that a user starts it, and When decides whether it runs.
	Manual bool
	When   *Condition
	// Steps are all in the group, and First those with which it begins.
	Steps, First []int
}

// Lock is a deployment or a concurrency group, of which one holder runs at a time.
type Lock struct {
	Name string
	// Group is the stage that holds it as a whole, or -1 if the step does.
	Group int
}

// Condition decides whether a step or a stage runs.
type Condition struct {
	// Changes is true if it depends on the files that were changed: one of Include and
	// not of Exclude.
	Changes          bool
	Include, Exclude []string
	// State is an expression over variables.
	State string
}

// Failure is what happens if a step fails. The zero Failure ends the pipeline.
type Failure struct {
	// Ignore lets the pipeline go on.
	Ignore bool
	// Retries is how often the step is run again.
	Retries int
}

// Files reads the files that others import.
type Files interface {
	// Read returns a file of the commit, or of another repository of the workspace at a
	// branch, tag or commit.
	Read(repository, ref, path string) (file []byte, ok bool)
}
