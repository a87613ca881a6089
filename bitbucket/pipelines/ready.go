package pipelines

// Ready returns the steps that could start now if there were a self-hosted runner for them, in
// the pipeline's order. The states are in the order of Pipeline.Steps; missing ones have not been
// reached. States of more steps than the pipeline has, and an unknown pipeline, give nothing.
//
// A step is ready if all of these hold:
//
//   - it has not started;
//   - the steps before it have ended well: successfully, failed where the failure is ignored,
//     or skipped by their condition. Side by side means after the same steps, and after a group
//     means after all of its steps. The final step is ready once the others have ended well, or
//     once one has ended otherwise and none is running;
//   - no step of its parallel group whose failure stops the group has failed;
//   - nothing else holds it back: it is not shown as PAUSED or HALTED. If a person must start it,
//     or if a condition of it or of the group that it begins is not decided, then Bitbucket must
//     show that it has reached the step (stage PENDING). No other step of the pipeline with its
//     concurrency group is running or comes first;
//   - it needs a self-hosted runner. Its labels may be unknown.
//
// A failed step that is retried has not ended until Bitbucket shows that the retries are used up:
// a later step did not run, or only the final step is left. Results and strategies that are not known do not count as an end
// either.
//
// Locks that other pipelines hold are not known here: Bitbucket shows a step that waits for a
// deployment lock as PAUSED, and Step.ConcurrencyGroup and Step.Deployment name them.
func Ready(p Pipeline, states []State) []Step {
	if p.Unknown != "" || len(states) > len(p.Steps) {
		return nil
	}
	w := &walk{pipeline: p, states: make([]State, len(p.Steps))}
	copy(w.states, states)
	end := w.sequence(p.Order, true, Always)
	if last := len(p.Steps) - 1; last >= 0 && p.Steps[last].Final && end != unfinished && !w.running(last) {
		w.step(last, true, Always)
	}
	return w.waiting()
}

// end is how far a step or group has come.
type end int

const (
	unfinished end = iota
	passed
	failed
)

// walk follows the order of a pipeline and collects the steps that are reached.
type walk struct {
	pipeline Pipeline
	states   []State
	reached  []int
}

// sequence walks nodes that follow each other. The first one is behind the condition of the group.
func (w *walk) sequence(nodes []Node, reached bool, condition Condition) end {
	for _, node := range nodes {
		if e := w.node(node, reached, condition); e != passed {
			return e
		}
		// A group's expression may change with every step, its changesets do not.
		if condition == Changesets && w.ran(node) {
			condition = Always
		}
	}
	return passed
}

func (w *walk) node(node Node, reached bool, condition Condition) end {
	if node.Kind == OneStep {
		return w.step(node.Step, reached, condition)
	}
	condition = max(condition, node.Condition)
	if node.Kind == Stage {
		return w.sequence(node.Nodes, reached, condition)
	}
	if w.stopped(node) {
		reached = false
	}
	worst := passed
	for _, child := range node.Nodes {
		switch e := w.node(child, reached, condition); {
		case e == unfinished:
			worst = unfinished
		case e == failed && worst == passed:
			worst = failed
		}
	}
	return worst
}

// stopped reports whether a step has failed whose failure stops a parallel group. A step that did
// not run stops nothing.
func (w *walk) stopped(group Node) bool {
	for _, i := range indexes(group) {
		if w.pipeline.Steps[i].FailFast && w.end(i) == failed && w.states[i].Result != ResultNotRun && w.states[i].Result != ResultSkipped {
			return true
		}
	}
	return false
}

// ran reports whether a step of a node has started, so that the condition before it held.
func (w *walk) ran(node Node) bool {
	for _, i := range indexes(node) {
		s := w.states[i]
		if s.Name == StateInProgress || s.Name == StateCompleted && s.Result != ResultNotRun && s.Result != ResultSkipped {
			return true
		}
	}
	return false
}

// indexes are the steps of a node.
func indexes(node Node) []int {
	if node.Kind == OneStep {
		return []int{node.Step}
	}
	var all []int
	for _, child := range node.Nodes {
		all = append(all, indexes(child)...)
	}
	return all
}

// step returns how far a step has come, and keeps it if it could start.
func (w *walk) step(i int, reached bool, condition Condition) end {
	step, state := w.pipeline.Steps[i], w.states[i]
	condition = max(condition, step.Condition)
	if reached && state.pending() && !state.held() && (state.reached() || !step.FromHand && condition == Always) {
		w.reached = append(w.reached, i)
	}
	return w.end(i)
}

// end returns how far a step has come.
func (w *walk) end(i int) end {
	step, state := w.pipeline.Steps[i], w.states[i]
	if state.Name != StateCompleted {
		return unfinished
	}
	switch state.Result {
	case ResultSuccessful:
		return passed
	case ResultNotRun, ResultSkipped:
		if step.Conditional {
			return passed
		}
		return failed
	case ResultStopped, ResultExpired:
		return failed
	case ResultFailed:
		if step.Failure == Ignore {
			return passed
		}
		if step.Failure == FailPipeline || w.over(i) {
			return failed
		}
	case ResultError:
		if step.Failure == FailPipeline || w.over(i) {
			return failed
		}
	}
	return unfinished
}

// over reports whether a failed step is not retried any more: a later step shows that the
// pipeline went no further, or no step but the final one is left.
func (w *walk) over(i int) bool {
	left := false
	for j, other := range w.states {
		step := w.pipeline.Steps[j]
		left = left || !step.Final && other.Name != StateCompleted
		if j > i && other.Name == StateCompleted && (other.Result == ResultNotRun || other.Result == ResultStopped) && !step.Conditional {
			return true
		}
	}
	return !left && !w.pipeline.Steps[i].Final
}

// running reports whether a step other than the given one is running.
func (w *walk) running(except int) bool {
	for i, state := range w.states {
		if i != except && state.Name == StateInProgress {
			return true
		}
	}
	return false
}

// waiting returns the steps that are reached, need a runner, and are not held back by a
// concurrency group.
func (w *walk) waiting() []Step {
	taken := map[string]bool{"": false}
	for i, state := range w.states {
		if group := w.pipeline.Steps[i].ConcurrencyGroup; group != "" && state.Name == StateInProgress {
			taken[group] = true
		}
	}
	var waiting []Step
	for _, i := range w.reached {
		step := w.pipeline.Steps[i]
		if taken[step.ConcurrencyGroup] {
			continue
		}
		if step.ConcurrencyGroup != "" {
			taken[step.ConcurrencyGroup] = true
		}
		if step.NeedsRunner() {
			waiting = append(waiting, step)
		}
	}
	return waiting
}
