package emulator

import (
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/faults"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/plan"
	"bitbucket-runner-scaler/bitbucket/emulator/push"
)

// The outcomes of a step.
const (
	OutcomeQueued  = pipelines.Queued
	OutcomeRunning = pipelines.Running
	OutcomePassed  = pipelines.Passed
	OutcomeFailed  = pipelines.Failed
	// OutcomeWaiting, OutcomePaused, OutcomeHalted and OutcomeNotRun are for the later steps of pipelines
	// that were pushed or started.
	OutcomeWaiting = pipelines.Waiting
	OutcomePaused  = pipelines.Paused
	OutcomeHalted  = pipelines.Halted
	OutcomeNotRun  = pipelines.NotRun
	// OutcomeError is a failure that is neither retried nor ignored. OutcomeSkipped is that of a
	// step whose condition did not hold.
	OutcomeError   = pipelines.Broken
	OutcomeSkipped = pipelines.Skipped
)

// The causes of a step's failure.
const (
	// CauseNoRunner means that no runner with all its labels was ONLINE when it was
	// queued.
	CauseNoRunner = pipelines.CauseNoRunner
	// CauseRunnerDeleted means that its runner was deleted while it ran.
	CauseRunnerDeleted = "runner deleted"
	// CauseDisconnected means that its runner's heartbeat was lost.
	CauseDisconnected = "disconnected"
	// CauseProcessGone means that its runner's process was started again.
	CauseProcessGone = "process gone"
	// CauseQueueTimeout means that it waited for a runner for more than 2.5 hours.
	CauseQueueTimeout = "queue timeout"
	// CauseStepTimeout means that it ran for more than 120 minutes.
	CauseStepTimeout = "step timeout"
	// CauseStopped means that it was cancelled with its pipeline.
	CauseStopped = pipelines.CauseStopped
	// CauseNoChild means that a step could not start its pipeline.
	CauseNoChild = pipelines.CauseNoChild
	// CauseStepFailed means that the runner reported the failure, or that the plan of steps has
	// it.
	CauseStepFailed = pipelines.CauseStepFailed
)

// State is the answer of GET /_emulator/state.
type State struct {
	// Now is the emulator's time.
	Now time.Time `json:"now"`
	// Runners contains all registered runners, by scope, oldest first.
	Runners []RunnerInfo `json:"runners"`
	// Steps contains the open steps and the last ended ones, oldest first.
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
	// Status is the status that Bitbucket shows. A disabled runner is DISABLED whether
	// or not it is connected.
	Status string `json:"status"`
	// Connected is true if its heartbeats arrive.
	Connected bool `json:"connected"`
	// StepUUID is empty for an idle runner. HideStep does not affect it.
	StepUUID string `json:"stepUuid,omitempty"`
	// StepsTaken is how many steps it has taken so far.
	StepsTaken    int       `json:"stepsTaken"`
	CreatedOn     time.Time `json:"createdOn"`
	LastHeartbeat time.Time `json:"lastHeartbeat,omitzero"`
}

// StepInfo is a step.
type StepInfo struct {
	UUID         string `json:"uuid"`
	PipelineUUID string `json:"pipelineUuid"`
	// Build is the build number of the pipeline.
	Build int `json:"build"`
	// Name is the one that Bitbucket shows. It may be empty.
	Name string `json:"name,omitempty"`
	// Workspace and Repository are slugs.
	Workspace  string   `json:"workspace"`
	Repository string   `json:"repository"`
	Labels     []string `json:"labels"`
	// Duration is how long the step runs, such as "30s".
	Duration string    `json:"duration"`
	QueuedOn time.Time `json:"queuedOn"`
	// StartedOn is when it was assigned to a runner. The runner receives it after the
	// assign lag.
	StartedOn   time.Time `json:"startedOn,omitzero"`
	CompletedOn time.Time `json:"completedOn,omitzero"`
	RunnerUUID  string    `json:"runnerUuid,omitempty"`
	// Outcome is "queued", "running", "passed", "failed" or "error", or for later steps of
	// pipelines that were pushed or started "waiting", "paused", "halted", "skipped" or
	// "not run".
	Outcome string `json:"outcome"`
	// Cause is the cause of a failure, one of the Cause constants.
	Cause string `json:"cause,omitempty"`
	// Retries is how often it was run again.
	Retries int `json:"retries,omitempty"`
}

// Counters counts since the emulator's start.
type Counters struct {
	// Calls by method and route template, as
	// "GET /2.0/workspaces/{workspace}/pipelines-config/runners". Calls of the
	// stand-in runners and of the controls are not among them.
	Calls map[string]int `json:"calls"`
	// TooManyRequests counts answers with 429, including injected ones.
	TooManyRequests int `json:"tooManyRequests"`
	// BusyRunnersDeleted counts the runners deleted while they had a step.
	BusyRunnersDeleted int `json:"busyRunnersDeleted"`
	// StepsLost counts the steps that ended with their runner, by cause.
	StepsLost map[string]int `json:"stepsLost"`
	// StepsFailedNoRunner counts the steps that failed when they were queued.
	StepsFailedNoRunner int `json:"stepsFailedNoRunner"`
	// RunnersReused counts the runners that took more than one step.
	RunnersReused int `json:"runnersReused"`
	// PeakOnline is the highest number of runners ONLINE and enabled at the same time, by
	// label set
	// (sorted, joined with commas).
	PeakOnline map[string]int `json:"peakOnline"`
	// PeakAlive is the highest number of runners with a process at the same time,
	// including disabled runners, by label set. A process is known from its first call to
	// its last.
	PeakAlive map[string]int `json:"peakAlive"`
	// PeakRegistered is the highest number of runners registered at the same time, by
	// scope.
	PeakRegistered map[string]int `json:"peakRegistered"`
}

// StepRequest queues one pipeline of Count parallel steps.
type StepRequest struct {
	// Workspace and Repository are slugs or {uuid}s.
	Workspace  string `json:"workspace"`
	Repository string `json:"repository"`
	// Labels is the steps' runs-on.
	Labels []string `json:"labels"`
	// Duration is the duration of each step, such as "30s". Default 0s.
	Duration string `json:"duration,omitempty"`
	// Count is 1 to 100. Default 1.
	Count int `json:"count,omitempty"`
}

// PushRequest pushes a commit with a bitbucket-pipelines.yml, which starts its pipelines.
type PushRequest = push.Request

// Pushed is the answer to a PushRequest.
type Pushed = push.Answer

// WebhookRequest registers a webhook.
type WebhookRequest struct {
	URL string `json:"url"`
	// Secret signs the deliveries.
	Secret string `json:"secret,omitempty"`
	// Events are the keys of events. Default all that the emulator sends.
	Events []string `json:"events,omitempty"`
}

// EventRequest sends an event of a pull request, of which the emulator has none.
type EventRequest struct {
	// Workspace and Repository are slugs or {uuid}s.
	Workspace  string `json:"workspace"`
	Repository string `json:"repository"`
	// Event is a key such as pullrequest:created.
	Event string `json:"event"`
	// Branch is the source of the pull request.
	Branch string `json:"branch"`
}

// StepsQueued is the answer to a StepRequest.
type StepsQueued struct {
	Pipeline string   `json:"pipeline"`
	Steps    []string `json:"steps"`
}

// FaultRule injects a fault in the calls that it matches.
type FaultRule = faults.Rule

// FaultRules is the body of POST /_emulator/faults, which replaces all rules.
type FaultRules struct {
	Rules []FaultRule `json:"rules"`
	// Deliveries inject faults in what webhooks receive.
	Deliveries []DeliveryFault `json:"deliveries,omitempty"`
}

// DeliveryFault loses, doubles or delays events.
type DeliveryFault = faults.Delivery

// StepPlan says how steps go: their durations, results and conditions.
type StepPlan = plan.Plan

// StepRule is one rule of a StepPlan.
type StepRule = plan.Rule

// RerunRequest starts a new run of a pipeline that has completed.
type RerunRequest struct {
	// All runs all steps again. By default those run that did not end well, and the final one.
	All bool `json:"all,omitempty"`
}
