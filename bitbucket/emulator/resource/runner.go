package resource

import "time"

type (
	// Runner is a registered runner.
	Runner struct {
		Type        string      `json:"type"`
		UUID        string      `json:"uuid"`
		Name        string      `json:"name"`
		Labels      []string    `json:"labels"`
		State       RunnerState `json:"state"`
		CreatedOn   time.Time   `json:"created_on"`
		UpdatedOn   time.Time   `json:"updated_on"`
		OAuthClient OAuthClient `json:"oauth_client"`
	}
	// RunnerState is the state of a runner.
	RunnerState struct {
		Type      string         `json:"type"`
		Status    string         `json:"status"`
		Version   *RunnerVersion `json:"version,omitempty"`
		UpdatedOn time.Time      `json:"updated_on"`
		Cordoned  bool           `json:"cordoned"`
		Step      *StepRef       `json:"step,omitempty"`
	}
	// RunnerVersion is the version of a runner's process, and the newest one.
	RunnerVersion struct {
		Version string `json:"version"`
		Current string `json:"current"`
	}
	// StepRef is the step that a runner has.
	StepRef struct {
		Type string `json:"type"`
		UUID string `json:"uuid"`
	}
	// OAuthClient is how a runner authenticates.
	OAuthClient struct {
		ID            string `json:"id"`
		Secret        string `json:"secret,omitempty"`
		TokenEndpoint string `json:"token_endpoint"`
		Audience      string `json:"audience"`
	}
)
