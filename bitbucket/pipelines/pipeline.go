package pipelines

import (
	"cmp"
	"fmt"
)

// MaxSteps is the number of steps that a pipeline may have.
const MaxSteps = 100

// Pipeline is one pipeline of a file: its steps and their order.
type Pipeline struct {
	Selector Selector
	// Unknown says why nothing can be said of the pipeline. If it is not empty, there are no
	// steps.
	Unknown string
	// Line of the definition in the file that has it.
	Line int
	// Steps in the order in which Bitbucket's API lists them. The final step is the last one.
	Steps []Step
	// Order has the steps, without the final one, as they follow each other.
	Order []Node
}

// Kind is the kind of a node.
type Kind int

// The kinds of nodes.
const (
	// OneStep is a single step.
	OneStep Kind = iota
	// Parallel is a group whose nodes run side by side.
	Parallel
	// Stage is a group whose nodes run one after the other.
	Stage
)

// Node is a step or a group of nodes in the order of a pipeline.
type Node struct {
	Kind Kind
	// Step is the index in Pipeline.Steps of a single step.
	Step int
	// Name of a stage.
	Name string
	// Gates hold back the beginning of a group.
	Gates
	// Nodes of a group.
	Nodes []Node
}

// Condition is how a step or group is skipped or not.
type Condition int

// The kinds of conditions. Bitbucket evaluates each when the step is reached.
const (
	// Always means that there is no condition.
	Always Condition = iota
	// Changesets depends on the files that were changed, so it does not change during a
	// pipeline.
	Changesets
	// Expression depends on variables that earlier steps can set.
	Expression
)

// Gates are what holds back a step or a group that has been reached, besides a missing runner.
type Gates struct {
	// Manual means that a person has to start it.
	Manual bool
	// Condition decides whether it is skipped.
	Condition Condition
	// Deployment is the environment that it locks, empty for none. Bitbucket pauses it while
	// another pipeline has the lock.
	Deployment string
	// ConcurrencyGroup is the name of a group of which one step runs at a time, as written,
	// with its variables; empty for none.
	ConcurrencyGroup string
}

// Failure is what happens if a step fails.
type Failure int

// What happens after a failed step.
const (
	// FailPipeline ends the pipeline.
	FailPipeline Failure = iota
	// Ignore lets the next step go on.
	Ignore
	// Retry runs the step again in the same run.
	Retry
	// OtherStrategy is one that this package does not know.
	OtherStrategy
)

// Step is one step of a pipeline.
type Step struct {
	// Index in Pipeline.Steps.
	Index int
	// Name as written; empty if the step has none.
	Name string
	// Labels are the step's runs-on, or else that of the file's options, as written. They are
	// empty for a step on Atlassian's own runners and for a child pipeline.
	Labels Labels
	// ownLabels means that the labels are the step's own and not those of options.
	ownLabels bool
	// Unknown says why the labels are not known; then Labels is empty.
	Unknown string
	// Gates of the step itself. A stage or group has its own in its Node.
	Gates
	// Conditional means that the step or a group around it has a condition.
	Conditional bool
	// FromHand means that a person has to start the step, or the stage of which it is the
	// first.
	FromHand bool
	// Child means that the step starts another pipeline and needs no runner. ChildName is the
	// custom pipeline that it starts.
	Child     bool
	ChildName string
	// Final means that the step runs at the end, also after a failure or a stop.
	Final bool
	// Failure of the step, or else of the group around it. MaxRetries is set for Retry.
	Failure    Failure
	MaxRetries int
	// FailFast means that the failure of the step stops the parallel group around it.
	FailFast bool
	// Line of the step in the file that has it.
	Line int
}

// Title returns the step's name, or "Step N" with its place in the pipeline if it has none.
func (s Step) Title() string { return cmp.Or(s.Name, fmt.Sprintf("Step %d", s.Index+1)) }

// NeedsRunner reports whether a self-hosted runner runs the step, or may do so: its labels may
// be unknown.
func (s Step) NeedsRunner() bool { return !s.Child && (len(s.Labels) > 0 || s.Unknown != "") }

// Predecessors returns the indexes of the steps that come directly before a step: the previous
// step, or all steps of the previous group. The final step comes after the last of the others. The
// first steps have none.
func (p Pipeline) Predecessors(step int) []int {
	var find func(nodes []Node, last []int) (before []int, found bool)
	find = func(nodes []Node, last []int) ([]int, bool) {
		for _, node := range nodes {
			switch node.Kind {
			case OneStep:
				if node.Step == step {
					return last, true
				}
			case Stage:
				if before, found := find(node.Nodes, last); found {
					return before, true
				}
			case Parallel:
				for _, child := range node.Nodes {
					if before, found := find([]Node{child}, last); found {
						return before, true
					}
				}
			}
			last = node.last()
		}
		return last, false
	}
	before, _ := find(p.Order, nil)
	return before
}

// last returns the steps with which a node ends.
func (n Node) last() []int {
	switch n.Kind {
	case OneStep:
		return []int{n.Step}
	case Stage:
		return n.Nodes[len(n.Nodes)-1].last()
	}
	var all []int
	for _, child := range n.Nodes {
		all = append(all, child.last()...)
	}
	return all
}
