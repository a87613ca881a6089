package bitbucket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The wire types follow the schemas of REST API 2.0. The schemas allow additional
// properties, and real answers omit some of these.
type (
	wireRunner struct {
		UUID        string           `json:"uuid"`
		Name        string           `json:"name"`
		Labels      []string         `json:"labels"`
		State       *wireState       `json:"state"`
		CreatedOn   wireTime         `json:"created_on"`
		UpdatedOn   wireTime         `json:"updated_on"`
		OAuthClient *wireOAuthClient `json:"oauth_client"`
	}
	wireState struct {
		Status    string      `json:"status"`
		Version   wireVersion `json:"version"`
		UpdatedOn wireTime    `json:"updated_on"`
		Cordoned  bool        `json:"cordoned"`
		Step      *wireStep   `json:"step"`
	}
	wireStep struct {
		Type string `json:"type"`
		UUID string `json:"uuid"`
	}
	wireOAuthClient struct {
		ID            string `json:"id"`
		Secret        string `json:"secret"`
		TokenEndpoint string `json:"token_endpoint"`
		Audience      string `json:"audience"`
	}
	wirePage struct {
		Values *[]json.RawMessage `json:"values"`
		Size   int                `json:"size"`
		Next   string             `json:"next"`
	}
)

// wireTime decodes RFC 3339 with any fraction. null and "" are the zero time. Anything else
// is an error, because the zero time would make a runner look infinitely old.
type wireTime struct{ time.Time }

func (t *wireTime) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	if text == "" {
		return nil
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("time: %w", err)
	}
	t.Time = parsed
	return nil
}

// wireVersion decodes {"version":"…","current":…} and also a bare string. The version is
// only informative, so another shape is not an error.
type wireVersion string

func (v *wireVersion) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*v = wireVersion(text)
		return nil
	}
	var object struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(data, &object) == nil {
		*v = wireVersion(object.Version)
	}
	return nil
}

func (w wireRunner) runner() Runner {
	r := Runner{
		UUID: w.UUID, Name: w.Name, Labels: w.Labels,
		CreatedOn: w.CreatedOn.Time, UpdatedOn: w.UpdatedOn.Time,
	}
	if s := w.State; s != nil {
		r.State = RunnerState{
			Status: Status(s.Status), Version: string(s.Version),
			UpdatedOn: s.UpdatedOn.Time, Cordoned: s.Cordoned,
		}
		if s.Step != nil {
			r.State.Step = &Step{Type: s.Step.Type, UUID: s.Step.UUID}
		}
	}
	if o := w.OAuthClient; o != nil {
		r.OAuthClient = &OAuthClient{
			ID: o.ID, Secret: Secret(o.Secret), TokenEndpoint: o.TokenEndpoint, Audience: o.Audience,
		}
	}
	return r
}

func decodeRunner(body []byte) (Runner, error) {
	var w wireRunner
	if err := json.Unmarshal(body, &w); err != nil {
		return Runner{}, fmt.Errorf("decode runner: %w", err)
	}
	if w.UUID == "" {
		return Runner{}, errors.New("decode runner: no uuid in the answer")
	}
	return w.runner(), nil
}

// runnerPage is one decoded page of a list.
type runnerPage struct {
	runners []Runner
	// size is the total that the server reports. It is 0 if it is missing.
	size int
	next string
}

// decodeRunnerPage refuses a page without values, or with a runner without a UUID. An
// answer that is not a list must never be decoded as an empty list.
func decodeRunnerPage(body []byte) (runnerPage, error) {
	var w wirePage
	if err := json.Unmarshal(body, &w); err != nil {
		return runnerPage{}, fmt.Errorf("decode list of runners: %w", err)
	}
	if w.Values == nil {
		return runnerPage{}, errors.New("decode list of runners: no values in the answer")
	}
	page := runnerPage{size: w.Size, next: w.Next, runners: make([]Runner, 0, len(*w.Values))}
	for i, value := range *w.Values {
		runner, err := decodeListed(value)
		if err != nil {
			return runnerPage{}, fmt.Errorf("decode list of runners: values[%d]: %w", i, err)
		}
		page.runners = append(page.runners, runner)
	}
	return page, nil
}

// decodeListed decodes one runner of a list. Of a runner that cannot be decoded whole,
// it keeps what says whose it is: one such runner must not hide all others, and it must
// not seem to be gone.
func decodeListed(value json.RawMessage) (Runner, error) {
	runner, err := decodeRunner(value)
	if err == nil {
		return runner, nil
	}
	var known struct {
		UUID   string   `json:"uuid"`
		Name   string   `json:"name"`
		Labels []string `json:"labels"`
	}
	if json.Unmarshal(value, &known) != nil || known.UUID == "" {
		return Runner{}, err
	}
	return Runner{UUID: known.UUID, Name: known.Name, Labels: known.Labels, State: RunnerState{Status: StatusOnline, Unreadable: true}}, nil
}

// wireError is Bitbucket's error body. The detail is a string or an object.
type wireError struct {
	Error struct {
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
		Fields  json.RawMessage `json:"fields"`
	} `json:"error"`
}

// scopes returns the lists of a missing-scope error, if the detail contains them.
func (w wireError) scopes() (required, granted []string, ok bool) {
	var detail struct {
		Required []string `json:"required"`
		Granted  []string `json:"granted"`
	}
	if json.Unmarshal(w.Error.Detail, &detail) != nil || len(detail.Required) == 0 {
		return nil, nil, false
	}
	return detail.Required, detail.Granted, true
}

// detailText returns the detail for an error text: a string unchanged, an object as
// compact JSON, followed by the faulty fields.
func (w wireError) detailText() string {
	var text string
	if json.Unmarshal(w.Error.Detail, &text) != nil {
		text = compact(w.Error.Detail)
	}
	if fields := compact(w.Error.Fields); fields != "" && fields != "null" && fields != "{}" {
		if text != "" {
			text += " "
		}
		text += "fields " + fields
	}
	return text
}

func compact(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var buf bytes.Buffer
	if json.Compact(&buf, raw) != nil {
		return ""
	}
	return buf.String()
}
