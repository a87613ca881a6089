package socket

import runnerv1 "bitbucket-runner-scaler/proto/runner/v1"

// Types of messages. The package comment says who sends which.
const (
	TypeReady       = "ready"
	TypeFetch       = "fetch"
	TypeEnvironment = "environment"
	TypeFinish      = "finish"
	TypeRefused     = "refused"
	TypeState       = "state"
	TypeEnded       = "ended"
	TypeStop        = "stop"
	TypeDrain       = "drain"
	TypeDrained     = "drained"
)

// Message is one line of the protocol.
type Message struct {
	Type string `json:"type"`
	// Ready goes with the answer to TypeReady. Wait goes with the question: the answer is
	// to come once the sidecar is ready.
	Ready bool `json:"ready,omitempty"`
	Wait  bool `json:"wait,omitempty"`
	// Environment goes with TypeEnvironment. It holds the runner's secret.
	Environment map[string]string `json:"environment,omitempty"`
	// Reason goes with TypeFinish, TypeRefused and TypeStop.
	Reason string `json:"reason,omitempty"`
	// Terminating goes with TypeStop: a preStop hook waits for the runner's end.
	Terminating bool `json:"terminating,omitempty"`
	// State, Running, Ended, Begun and Unrecognized go with TypeState, see Report.
	State        string    `json:"state,omitempty"`
	Running      Step      `json:"running,omitzero"`
	Ended        EndedStep `json:"ended,omitzero"`
	Begun        uint32    `json:"steps_begun,omitempty"`
	Unrecognized bool      `json:"unrecognized_output,omitempty"`
	// ExitCode goes with TypeEnded. LastLine does too, if the runner has had no step: the
	// last line of its output, bounded and without secrets.
	ExitCode int    `json:"exit_code,omitempty"`
	LastLine string `json:"last_line,omitempty"`
}

var stateNames = map[runnerv1.RunnerState]string{
	runnerv1.RunnerState_RUNNER_STATE_STARTING: "starting",
	runnerv1.RunnerState_RUNNER_STATE_IDLE:     "idle",
	runnerv1.RunnerState_RUNNER_STATE_BUSY:     "busy",
	runnerv1.RunnerState_RUNNER_STATE_STOPPING: "stopping",
	runnerv1.RunnerState_RUNNER_STATE_UNKNOWN:  "unknown",
}

// StateMessage returns the TypeState message for a report.
func StateMessage(r Report) Message {
	return Message{Type: TypeState, State: stateNames[r.State], Running: r.Step, Ended: r.Ended, Begun: r.Begun, Unrecognized: r.Unrecognized}
}

// Report returns the report that a TypeState message carries. A state that this
// build does not know is UNKNOWN, and only a busy runner has a step.
func (m Message) Report() Report {
	r := Report{State: runnerv1.RunnerState_RUNNER_STATE_UNKNOWN, Ended: m.Ended, Begun: m.Begun, Unrecognized: m.Unrecognized}
	for state, name := range stateNames {
		if name == m.State {
			r.State = state
		}
	}
	if r.State == runnerv1.RunnerState_RUNNER_STATE_BUSY {
		r.Step = m.Running
	}
	return r
}
