// Package agent is the protocol between the emulator and the stand-in runner.
package agent

// The protocol between the emulator and the stand-in runner is the emulator's own,
// because the real one is not documented. The process gets a token with its runner's
// OAuth client at the token_endpoint of the registration. With that token it calls the
// paths below on the same host.
const (
	// HeartbeatPath accepts POST and answers 204.
	HeartbeatPath = "/_emulator/agent/heartbeat"
	// StepPath answers GET with 200 and an Assignment, or 204.
	StepPath = "/_emulator/agent/step"
	// ResultPath accepts POST of a Result and answers 204. It answers 409 if
	// the runner no longer has the step.
	ResultPath = "/_emulator/agent/result"
)

// Assignment is a step that a runner should run.
type Assignment struct {
	// The UUIDs are in braces.
	Account    string `json:"account"`
	Repository string `json:"repository"`
	Pipeline   string `json:"pipeline"`
	Step       string `json:"step"`
	// Duration as "30s".
	Duration string `json:"duration"`
	// Status is how it ends. Empty means PASSED.
	Status string `json:"status,omitempty"`
}

// Result is how a step ended.
type Result struct {
	// Step is its UUID.
	Step string `json:"step"`
	// Status is PASSED, FAILED or ERROR.
	Status string `json:"status"`
}

// Statuses of a Result.
const (
	Passed = "PASSED"
	Failed = "FAILED"
	Error  = "ERROR"
)
