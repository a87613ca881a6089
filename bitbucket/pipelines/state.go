package pipelines

import (
	"fmt"
	"regexp"
	"strings"
)

// The names of a step's state, its stage and its result, as the API reports them.
const (
	StatePending    = "PENDING"
	StateReady      = "READY"
	StateInProgress = "IN_PROGRESS"
	StateCompleted  = "COMPLETED"

	StagePending = "PENDING"
	StagePaused  = "PAUSED"
	StageHalted  = "HALTED"

	ResultSuccessful = "SUCCESSFUL"
	ResultFailed     = "FAILED"
	ResultError      = "ERROR"
	ResultStopped    = "STOPPED"
	ResultExpired    = "EXPIRED"
	ResultNotRun     = "NOT_RUN"
	ResultSkipped    = "SKIPPED"
)

// State is the state of a step in the API's terms. The zero State is one that has not been
// reached.
type State struct {
	// Name is PENDING, READY, IN_PROGRESS or COMPLETED.
	Name string
	// Stage of a pending step: PENDING once it has been reached, PAUSED for an open manual
	// gate or a lock, HALTED, or empty.
	Stage string
	// Result of a completed step.
	Result string
}

// Done returns the state of a step that has succeeded.
func Done() State { return State{Name: StateCompleted, Result: ResultSuccessful} }

// pending reports whether a step has not started.
func (s State) pending() bool {
	return s.Name == "" || s.Name == StatePending || s.Name == StateReady
}

// reached reports whether Bitbucket shows that it has reached a step and that nothing but a
// runner is missing.
func (s State) reached() bool {
	return s.Name == StateReady || s.Name == StatePending && s.Stage == StagePending
}

// held reports whether Bitbucket shows that something else than a runner is missing.
func (s State) held() bool { return s.Stage != "" && s.Stage != StagePending }

// Reported is a step as the API lists it.
type Reported struct {
	// Name may be empty.
	Name  string
	State State
}

// finalPrefix is what the API puts before the name of a final step.
const finalPrefix = "[Final Step]"

// defaultName is the name that Bitbucket shows for a step without a name.
var defaultName = regexp.MustCompile(`^Step [0-9]+$`)

// Align joins a pipeline with the steps that the API lists. It returns their states in the order
// of Pipeline.Steps, or the reason why the API's steps are not those of the file: their number or
// a name differs. Then the pipeline was not made from this definition, and its labels are not
// known. A step without a name in the file has none in the API either, or Bitbucket's default.
func (p Pipeline) Align(reported []Reported) (states []State, unknown string) {
	if p.Unknown != "" {
		return nil, p.Unknown
	}
	if len(reported) != len(p.Steps) {
		return nil, fmt.Sprintf("Bitbucket lists %d steps, the file has %d", len(reported), len(p.Steps))
	}
	for i, step := range p.Steps {
		name := strings.TrimSpace(reported[i].Name)
		if step.Final {
			name = strings.TrimSpace(strings.TrimPrefix(name, finalPrefix))
		}
		if name != step.Name && (step.Name != "" || !defaultName.MatchString(name)) {
			return nil, fmt.Sprintf("step %d is %q at Bitbucket and %q in the file", i+1, shorten(name), shorten(step.Name))
		}
		states = append(states, reported[i].State)
	}
	return states, ""
}
