package emulator

import "time"

// Outcomes of a step.
const (
	OutcomeQueued  = "queued"
	OutcomeRunning = "running"
	OutcomePassed  = "passed"
	OutcomeFailed  = "failed"
)

// Causes why a step failed.
const (
	// CauseNoRunner: no runner with all its labels was ONLINE as it was queued.
	CauseNoRunner = "no runner"
	// CauseRunnerDeleted: its runner was deleted while it ran.
	CauseRunnerDeleted = "runner deleted"
	// CauseDisconnected: its runner's heartbeat was lost.
	CauseDisconnected = "disconnected"
	// CauseProcessGone: its runner was started anew, without it.
	CauseProcessGone = "process gone"
	// CauseQueueTimeout: it waited for a runner for more than 2.5 hours.
	CauseQueueTimeout = "queue timeout"
	// CauseStepTimeout: it ran for more than 120 minutes.
	CauseStepTimeout = "step timeout"
	// CauseStopped: it was cancelled with its pipeline.
	CauseStopped = "stopped"
	// CauseStepFailed: the runner itself reported that it failed.
	CauseStepFailed = "step failed"
)

// State is what GET /_emulator/state answers.
type State struct {
	// Now is the emulator's time.
	Now time.Time `json:"now"`
	// Runners are all registered ones, by scope, oldest first.
	Runners []RunnerInfo `json:"runners"`
	// Steps are the open ones and the latest ended ones, oldest first.
	Steps    []StepInfo `json:"steps"`
	Counters Counters   `json:"counters"`
}

// RunnerInfo is a registered runner.
type RunnerInfo struct {
	UUID   string   `json:"uuid"`
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
	// Scope is "workspace" or "workspace/repository", by slugs.
	Scope string `json:"scope"`
	// Status is as Bitbucket shows it: a disabled runner is DISABLED whether or
	// not it is connected.
	Status string `json:"status"`
	// Connected tells whether its heartbeats are heard.
	Connected bool `json:"connected"`
	// StepUUID is empty for an idle runner; not affected by HideStep.
	StepUUID string `json:"stepUuid,omitempty"`
	// StepsTaken is how many steps it has been given so far.
	StepsTaken    int       `json:"stepsTaken"`
	CreatedOn     time.Time `json:"createdOn"`
	LastHeartbeat time.Time `json:"lastHeartbeat,omitzero"`
}

// StepInfo is a step.
type StepInfo struct {
	UUID         string `json:"uuid"`
	PipelineUUID string `json:"pipelineUuid"`
	// Workspace and Repository are slugs.
	Workspace  string   `json:"workspace"`
	Repository string   `json:"repository"`
	Labels     []string `json:"labels"`
	// Duration that the step runs, as "30s".
	Duration string    `json:"duration"`
	QueuedOn time.Time `json:"queuedOn"`
	// StartedOn is when it showed on a runner; the runner learns of it after the
	// assign lag.
	StartedOn   time.Time `json:"startedOn,omitzero"`
	CompletedOn time.Time `json:"completedOn,omitzero"`
	RunnerUUID  string    `json:"runnerUuid,omitempty"`
	// Outcome is "queued", "running", "passed" or "failed".
	Outcome string `json:"outcome"`
	// Cause of a failure, one of the Cause constants.
	Cause string `json:"cause,omitempty"`
}

// Counters count from the emulator's start.
type Counters struct {
	// Calls by method and route template, as
	// "GET /2.0/workspaces/{workspace}/pipelines-config/runners". Calls of the
	// stand-in runners and of the controls are not among them.
	Calls map[string]int `json:"calls"`
	// TooManyRequests counts the 429s given, injected ones too.
	TooManyRequests int `json:"tooManyRequests"`
	// BusyRunnersDeleted counts the runners deleted while they had a step.
	BusyRunnersDeleted int `json:"busyRunnersDeleted"`
	// StepsLost counts the steps that ended with their runner, by cause.
	StepsLost map[string]int `json:"stepsLost"`
	// StepsFailedNoRunner counts the steps that failed as they were queued.
	StepsFailedNoRunner int `json:"stepsFailedNoRunner"`
	// RunnersReused counts the runners that took more than one step.
	RunnersReused int `json:"runnersReused"`
	// PeakOnline is the most runners ever ONLINE and enabled at once, by label set
	// (sorted, joined with commas).
	PeakOnline map[string]int `json:"peakOnline"`
	// PeakAlive is the most runners whose processes were ever alive at once, disabled
	// ones too, by label set. A process is known to be from its first call to its last.
	PeakAlive map[string]int `json:"peakAlive"`
	// PeakRegistered is the most runners ever registered at once, by scope.
	PeakRegistered map[string]int `json:"peakRegistered"`
}

// StepRequest queues steps: one pipeline of Count parallel ones.
type StepRequest struct {
	// Workspace and Repository are slugs or {uuid}s.
	Workspace  string `json:"workspace"`
	Repository string `json:"repository"`
	// Labels are the steps' runs-on.
	Labels []string `json:"labels"`
	// Duration of each, as "30s". Default 0s.
	Duration string `json:"duration,omitempty"`
	// Count is 1 to 100. Default 1.
	Count int `json:"count,omitempty"`
}

// StepsQueued is the answer to a StepRequest.
type StepsQueued struct {
	Pipeline string   `json:"pipeline"`
	Steps    []string `json:"steps"`
}

// FaultRule makes the emulator misbehave for the calls that it matches. Of
// several rules that match, the first that fires applies.
type FaultRule struct {
	// Method is the HTTP method; empty: any.
	Method string `json:"method,omitempty"`
	// Path is a glob of the URL's path, in which * stands for any run of
	// characters, slashes too. Empty: any.
	Path string `json:"path,omitempty"`
	// Probability that it fires, up to 1; 0 means 1.
	Probability float64 `json:"probability,omitempty"`
	// Count is how many times it fires; 0: without end.
	Count int `json:"count,omitempty"`
	// Status answers with this status, 200 to 599, in place of the call's work.
	Status int `json:"status,omitempty"`
	// Latency delays the call, as "2s".
	Latency string `json:"latency,omitempty"`
	// DropAfterWrite does the call's work and then cuts the connection; with
	// Status, it answers that status instead of cutting.
	DropAfterWrite bool `json:"dropAfterWrite,omitempty"`
	// ApplyAfter answers a write at once and does it that much later.
	ApplyAfter string `json:"applyAfter,omitempty"`
	// StaleFor makes lists of runners show what was that long ago, but nothing
	// from before the rule was set.
	StaleFor string `json:"staleFor,omitempty"`
	// EmptyList makes lists empty.
	EmptyList bool `json:"emptyList,omitempty"`
	// HideStep leaves state.step out, as Options.HideStep does everywhere.
	HideStep bool `json:"hideStep,omitempty"`
	// Truncate cuts the answer and the connection in the middle of the body.
	Truncate bool `json:"truncate,omitempty"`
}

// FaultRules is the body of POST /_emulator/faults, which replaces all rules.
type FaultRules struct {
	Rules []FaultRule `json:"rules"`
}
