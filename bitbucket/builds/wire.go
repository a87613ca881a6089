package builds

import (
	"encoding/json"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
)

type wirePipeline struct {
	UUID        string          `json:"uuid"`
	BuildNumber json.RawMessage `json:"build_number"`
	RunNumber   json.RawMessage `json:"run_number"`
	CreatedOn   string          `json:"created_on"`
	CompletedOn string          `json:"completed_on"`
	State       struct {
		Name   string `json:"name"`
		Result *named `json:"result"`
	} `json:"state"`
	Repository wireRepository `json:"repository"`
	Target     struct {
		Commit struct {
			Hash string `json:"hash"`
		} `json:"commit"`
		Selector *struct {
			Type    string `json:"type"`
			Pattern string `json:"pattern"`
		} `json:"selector"`
	} `json:"target"`
}

func (w wirePipeline) pipeline() Pipeline {
	p := Pipeline{
		UUID: strings.ToLower(w.UUID), Build: number(w.BuildNumber), Run: number(w.RunNumber), CreatedOn: moment(w.CreatedOn), CompletedOn: moment(w.CompletedOn), Result: w.State.Result.text(),
		Completed: w.State.Name == pipelines.StateCompleted, Repository: w.Repository.repository(), Commit: w.Target.Commit.Hash,
	}
	if s := w.Target.Selector; s != nil && s.Type != "" && w.State.Name != "PARSING" {
		p.Parsed = true
		kind := strings.ReplaceAll(strings.ToLower(s.Type), "_", "-")
		p.Selector = pipelines.Selector{Type: kind, Pattern: s.Pattern}
	}
	return p
}

type wireStep struct {
	UUID  string `json:"uuid"`
	Name  string `json:"name"`
	State struct {
		Name   string `json:"name"`
		Stage  *named `json:"stage"`
		Result *named `json:"result"`
	} `json:"state"`
	RunNumber json.RawMessage `json:"run_number"`
	StartedOn string          `json:"started_on"`
	Seconds   json.RawMessage `json:"duration_in_seconds"`
}

type named struct {
	Name string `json:"name"`
}

func (n *named) text() string {
	if n == nil {
		return ""
	}
	return n.Name
}

func (w wireStep) step() Step {
	return Step{
		UUID: strings.ToLower(w.UUID), Run: number(w.RunNumber), StartedOn: moment(w.StartedOn), Duration: seconds(w.Seconds),
		Reported: pipelines.Reported{Name: w.Name, State: pipelines.State{Name: w.State.Name, Stage: w.State.Stage.text(), Result: w.State.Result.text()}},
	}
}

type wireRepository struct {
	UUID      string `json:"uuid"`
	FullName  string `json:"full_name"`
	UpdatedOn string `json:"updated_on"`
}

func (w wireRepository) repository() Repository {
	return Repository{UUID: strings.ToLower(w.UUID), FullName: w.FullName, UpdatedOn: moment(w.UpdatedOn)}
}

// number reads a number that some answers write as a string; 0 if it is neither.
func number(raw json.RawMessage) int {
	var n int
	if json.Unmarshal([]byte(strings.Trim(string(raw), `"`)), &n) != nil {
		return 0
	}
	return n
}

// seconds reads a duration; 0 if it is none.
func seconds(raw json.RawMessage) time.Duration {
	var n float64
	if json.Unmarshal([]byte(strings.Trim(string(raw), `"`)), &n) != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, mostSeconds) * float64(time.Second))
}

// mostSeconds is longer than any step, and short enough for a time.Duration.
const mostSeconds = 1e9

// moment reads a time; zero if it is missing or unreadable.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
