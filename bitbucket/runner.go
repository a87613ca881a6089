package bitbucket

import "time"

// Status is a runner's status as Bitbucket reports it. Busy is not a status: a
// busy runner has a Step under StatusOnline or StatusDisabled. Values unknown
// to this package are kept as they came.
type Status string

// The statuses of Bitbucket's schema pipelines_runner_state.
const (
	// StatusUnregistered is a runner that was created and has not connected yet.
	StatusUnregistered Status = "UNREGISTERED"
	// StatusOnline is a connected runner that takes steps.
	StatusOnline Status = "ONLINE"
	// StatusOffline is a runner whose heartbeat was lost.
	StatusOffline Status = "OFFLINE"
	// StatusDisabled is a runner that finishes its step and takes no new one.
	StatusDisabled Status = "DISABLED"
	// StatusEnabled is what a disabled runner is set to, to take steps again.
	StatusEnabled Status = "ENABLED"
	// StatusUnhealthy is a runner that failed to tear down its build directory.
	StatusUnhealthy Status = "UNHEALTHY"
)

// Step is the step that a runner is working on.
type Step struct {
	// Type is "PIPELINE_STEP" in all answers seen.
	Type string
	// UUID is the step's, in braces.
	UUID string
}

// RunnerState is what a runner is doing.
type RunnerState struct {
	Status  Status
	Version string
	// UpdatedOn is Bitbucket's time of the last change; zero when not told.
	UpdatedOn time.Time
	// Cordoned runners are prevented from accepting new steps.
	Cordoned bool
	// Step is nil for an idle runner, and also where Bitbucket does not tell
	// steps at all: a nil step alone is no proof of idleness.
	Step *Step
}

// OAuthClient is what the runner's own container authenticates with.
type OAuthClient struct {
	ID string
	// Secret is only in the answer to CreateRunner, this once.
	Secret        Secret
	TokenEndpoint string
	Audience      string
}

// Runner is one registered runner.
type Runner struct {
	// UUID is in braces.
	UUID   string
	Name   string
	Labels []string
	State  RunnerState
	// CreatedOn and UpdatedOn are Bitbucket's times; zero when not told.
	CreatedOn, UpdatedOn time.Time
	// OAuthClient is nil where the answer has none.
	OAuthClient *OAuthClient
}

// RunnerList is a complete list of a scope's runners.
type RunnerList struct {
	// Runners are in Bitbucket's order, each UUID once.
	Runners []Runner
	// Begun is the local clock's time before the first request: what was
	// written before it must show in the list, unless Bitbucket lags.
	Begun time.Time
	// ServerDate is the Date header of the first page, the reference for the
	// ages of runners; zero when it was missing.
	ServerDate time.Time
}

// NewRunner is what CreateRunner registers.
type NewRunner struct {
	// Name is at most 50 characters.
	Name string
	// Labels include self.hosted and the label of the operating system.
	Labels []string
}
