package queue

// StepID names a step by UUIDs in braces.
type StepID struct{ Repository, Pipeline, Step string }

// Run is what the sidecar of a runner reports of the steps that its runner runs.
type Run struct {
	// Running is the step that the runner runs; zero if none, or if it is not known.
	Running StepID
	// Ended is the step that it ran last; zero if it has ended none.
	Ended StepID
	// Result is how Ended ended, in the words of the runner's log, such as PASSED; empty
	// if it is not known.
	Result string
}
