package emulator

import "time"

// State is everything that GET /_emulator/state shows.
type State struct {
	Runners  []RunnerInfo `json:"runners"`
	Steps    []StepInfo   `json:"steps"`
	Counters Counters     `json:"counters"`
}

// RunnerInfo is one registered runner.
type RunnerInfo struct {
	UUID     string   `json:"uuid"`
	Name     string   `json:"name"`
	Labels   []string `json:"labels"`
	Scope    string   `json:"scope"`
	Status   string   `json:"status"`
	StepUUID string   `json:"stepUuid,omitempty"`
}

// Outcomes of a step.
const (
	OutcomeQueued  = "queued"
	OutcomeRunning = "running"
	OutcomePassed  = "passed"
	OutcomeFailed  = "failed"
)

// Causes of a failed step.
const (
	CauseNoRunner     = "no runner online"
	CauseDeleted      = "runner deleted"
	CauseDisconnected = "disconnected"
	CauseProcessGone  = "process gone"
)

// StepInfo is one step. Times are zero until they come.
type StepInfo struct {
	UUID        string    `json:"uuid"`
	Workspace   string    `json:"workspace"`
	Repository  string    `json:"repository"`
	Labels      []string  `json:"labels"`
	Duration    string    `json:"duration"`
	QueuedOn    time.Time `json:"queuedOn"`
	StartedOn   time.Time `json:"startedOn,omitzero"`
	CompletedOn time.Time `json:"completedOn,omitzero"`
	RunnerUUID  string    `json:"runnerUuid,omitempty"`
	Outcome     string    `json:"outcome"`
	Cause       string    `json:"cause,omitempty"`
}

// Counters are the emulator's own record of what must and must not happen.
type Counters struct {
	// Calls by method and route template.
	Calls               map[string]int `json:"calls"`
	TooManyRequests     int            `json:"tooManyRequests"`
	BusyRunnersDeleted  int            `json:"busyRunnersDeleted"`
	StepsLost           map[string]int `json:"stepsLost"`
	StepsFailedNoRunner int            `json:"stepsFailedNoRunner"`
	RunnersReused       int            `json:"runnersReused"`
	PeakOnline          map[string]int `json:"peakOnline"`
	PeakRegistered      map[string]int `json:"peakRegistered"`
}

// StepRequest queues Count parallel steps as one pipeline.
type StepRequest struct {
	Workspace  string   `json:"workspace"`
	Repository string   `json:"repository"`
	Labels     []string `json:"labels"`
	Duration   string   `json:"duration"`
	Count      int      `json:"count"`
}
