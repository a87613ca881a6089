package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Runner is the stand-in for Atlassian's runner: its environment, its log lines,
// its timing. It takes steps and sleeps their duration.
type Runner struct {
	// Out takes the log lines.
	Out io.Writer
	// Startup is how long it takes to come online, as the real one's JVM does.
	Startup time.Duration
	// PollInterval between two questions for a step.
	PollInterval time.Duration

	account, repository, uuid string
	clientID, clientSecret    string
	tokenEndpoint, base       string
	token                     string
	client                    *http.Client
}

// NewRunner reads the environment of the runner's container. The error names
// every variable that is missing.
func NewRunner(lookup func(string) (string, bool), out io.Writer) (*Runner, error) {
	r := &Runner{Out: out, Startup: time.Second, PollInterval: 500 * time.Millisecond, client: &http.Client{Timeout: 10 * time.Second}}
	var missing []string
	for name, into := range map[string]*string{
		"ACCOUNT_UUID": &r.account, "RUNNER_UUID": &r.uuid, "OAUTH_CLIENT_ID": &r.clientID, "OAUTH_CLIENT_SECRET": &r.clientSecret,
		"OAUTH_TOKEN_ENDPOINT": &r.tokenEndpoint, "WORKING_DIRECTORY": nil, "RUNTIME_PREREQUISITES_ENABLED": nil,
	} {
		value, ok := lookup(name)
		if !ok || value == "" {
			missing = append(missing, name)
		}
		if into != nil {
			*into = value
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("environment: missing %s", strings.Join(missing, ", "))
	}
	r.repository, _ = lookup("REPOSITORY_UUID")
	endpoint, err := url.Parse(r.tokenEndpoint)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("OAUTH_TOKEN_ENDPOINT: %q, want a URL of the emulator", r.tokenEndpoint)
	}
	r.base = endpoint.Scheme + "://" + endpoint.Host
	return r, nil
}

func (r *Runner) log(format string, args ...any) {
	_, _ = fmt.Fprintf(r.Out, "[%s] %s\n", strings.Replace(time.Now().UTC().Format("2006-01-02 15:04:05.000"), ".", ",", 1), fmt.Sprintf(format, args...))
}

// Refusals: Bitbucket does not know the runner (any more), or the step is not its.
var (
	errRefused = errors.New("the runner is not registered (any more)")
	errNotMine = errors.New("the step is not this runner's (any more)")
)

// Run takes steps until ctx ends, which it does without a word, as the real one
// dies, or until the runner is deleted.
func (r *Runner) Run(ctx context.Context) error {
	r.log("Starting Bitbucket Pipelines Runner")
	if !pause(ctx, r.Startup) {
		return ctx.Err()
	}
	if err := r.authenticate(ctx); err != nil {
		return err
	}
	first := true
	for {
		var assignment Assignment
		err := r.call(ctx, "/_emulator/agent/poll", nil, &assignment)
		switch {
		case errors.Is(err, errRefused):
			return err
		case err != nil:
			r.log("An error occurred whilst updating runner status: %v", err)
		case first:
			first = false
			r.log(`Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.`)
		}
		if assignment.Step != "" {
			if err := r.take(ctx, assignment); err != nil {
				return err
			}
			continue
		}
		if !pause(ctx, r.PollInterval) {
			return ctx.Err()
		}
	}
}

// take runs one step, with heartbeats while it lasts.
func (r *Runner) take(ctx context.Context, a Assignment) error {
	r.log("Getting step StepId{accountUuid=%s, repositoryUuid=%s, pipelineUuid=%s, stepUuid=%s}.", a.Account, a.Repository, a.Pipeline, a.Step)
	duration, err := time.ParseDuration(a.Duration)
	if err != nil {
		return fmt.Errorf("step %s: %w", a.Step, err)
	}
	end := time.Now().Add(duration)
	for left := duration; left > 0; left = time.Until(end) {
		if !pause(ctx, min(left, 10*r.PollInterval)) {
			return ctx.Err()
		}
		if err := r.call(ctx, "/_emulator/agent/poll", nil, &Assignment{}); errors.Is(err, errRefused) {
			return err
		}
	}
	r.log("Completing step with result Result{status=PASSED, error=None}.")
	for {
		err := r.call(ctx, "/_emulator/agent/complete", map[string]any{"step": a.Step, "passed": true}, &struct{}{})
		switch {
		case errors.Is(err, errNotMine):
			r.log("The step was given up meanwhile.")
			return nil
		case err == nil || errors.Is(err, errRefused):
			return err
		}
		r.log("An error occurred whilst completing the step: %v", err)
		if !pause(ctx, r.PollInterval) {
			return ctx.Err()
		}
	}
}

func (r *Runner) authenticate(ctx context.Context) error {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {r.clientID}, "client_secret": {r.clientSecret}}
	for {
		var token struct {
			AccessToken string `json:"access_token"`
		}
		err := r.send(ctx, r.tokenEndpoint, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), &token)
		if err == nil || errors.Is(err, errRefused) {
			r.token = token.AccessToken
			return err
		}
		r.log("An error occurred whilst authenticating: %v", err)
		if !pause(ctx, r.PollInterval) {
			return ctx.Err()
		}
	}
}

func (r *Runner) call(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return r.send(ctx, r.base+path, "application/json", bytes.NewReader(raw), into)
}

func (r *Runner) send(ctx context.Context, target, contentType string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, body)
	if err != nil {
		return fmt.Errorf("call Bitbucket: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("call Bitbucket: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %s", errRefused, resp.Status)
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", errNotMine, resp.Status)
	default:
		return fmt.Errorf("call Bitbucket: %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("call Bitbucket: %w", err)
	}
	return nil
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
