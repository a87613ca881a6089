package bitbucket

import "time"

// Status is a runner's status as Bitbucket reports it. Busy is not a status: a busy
// runner has a Step and is StatusOnline or StatusDisabled. Values that this package does
// not know are kept unchanged.
type Status string

// The statuses of Bitbucket's schema pipelines_runner_state.
const (
	// StatusUnregistered is a registered runner that has not connected yet.
	StatusUnregistered Status = "UNREGISTERED"
	// StatusOnline is a connected runner that takes steps.
	StatusOnline Status = "ONLINE"
	// StatusOffline is a runner whose heartbeat was lost.
	StatusOffline Status = "OFFLINE"
	// StatusDisabled is a runner that finishes its step and takes no new one.
	StatusDisabled Status = "DISABLED"
	// StatusEnabled is set on a disabled runner, so that it takes steps again.
	StatusEnabled Status = "ENABLED"
	// StatusUnhealthy is a runner that failed to tear down its build directory.
	StatusUnhealthy Status = "UNHEALTHY"
)

// Step is the step that a runner is working on.
type Step struct {
	// Type is "PIPELINE_STEP" in all answers observed.
	Type string
	// UUID is the step's UUID, in braces.
	UUID string
}

// RunnerState is the state of a runner.
type RunnerState struct {
	Status  Status
	Version string
	// UpdatedOn is Bitbucket's time of the last change. It is zero if it is missing.
	UpdatedOn time.Time
	// Cordoned runners are prevented from accepting new steps.
	Cordoned bool
	// Unreadable means that a list had the runner in a form that could not be decoded.
	// Then Status is StatusOnline, for which nothing is removed, and nothing else is
	// known.
	Unreadable bool
	// Step is nil for an idle runner. It is also nil if Bitbucket does not show steps at
	// all, so nil alone does not prove that the runner is idle.
	Step *Step
}

// OAuthClient contains the credentials of the runner's own container.
type OAuthClient struct {
	ID string
	// Secret is only in the answer to CreateRunner.
	Secret        Secret
	TokenEndpoint string
	Audience      string
}

// Runner is one registered runner.
type Runner struct {
	// UUID is the runner's UUID, in braces.
	UUID   string
	Name   string
	Labels []string
	State  RunnerState
	// CreatedOn and UpdatedOn are Bitbucket's times. They are zero if they are missing.
	CreatedOn, UpdatedOn time.Time
	// OAuthClient is nil if the answer has none.
	OAuthClient *OAuthClient
}

// RunnerList is a complete list of a scope's runners.
type RunnerList struct {
	// Internal is true if it came by the internal route.
	Internal bool
	// Runners are in Bitbucket's order. Each UUID occurs once.
	Runners []Runner
	// Begun is the local time before the first request. The list must show everything
	// that was written before Begun, unless Bitbucket lags.
	Begun time.Time
	// ServerDate is the Date header of the first page, from which the ages of runners
	// are computed. It is zero if the header is missing.
	ServerDate time.Time
}

// NewRunner describes the runner that CreateRunner registers.
type NewRunner struct {
	// Name has at most 50 characters.
	Name string
	// Labels include self.hosted and the label of the operating system.
	Labels []string
}
