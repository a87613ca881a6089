// Package standin is a stand-in for Atlassian's runner. It has the real runner's
// environment, log lines and timing, but sleeps instead of running steps. It only works
// with the emulator, with the emulator's own protocol.
package standin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config configures a runner.
type Config struct {
	// AccountUUID is the workspace's UUID, braces included (ACCOUNT_UUID).
	AccountUUID string
	// RepositoryUUID is only given for a repository's runner (REPOSITORY_UUID).
	RepositoryUUID string
	// RunnerUUID is the runner's UUID, braces included (RUNNER_UUID).
	RunnerUUID string
	// ClientID and ClientSecret are the runner's OAuth client (OAUTH_CLIENT_ID,
	// OAUTH_CLIENT_SECRET).
	ClientID, ClientSecret string
	// TokenEndpoint is the URL at which it authenticates. The emulator is at the same
	// host (OAUTH_TOKEN_ENDPOINT).
	TokenEndpoint string
	// WorkingDirectory is required, as by the real runner, but not used
	// (WORKING_DIRECTORY).
	WorkingDirectory string
	// PrerequisitesEnabled is checked, as by the real runner, but not used
	// (RUNTIME_PREREQUISITES_ENABLED). Default "true".
	PrerequisitesEnabled string

	// Startup is how long it takes to start. The real runner is a Java program.
	Startup time.Duration
	// Heartbeat is the time between two heartbeats. The real runner's is 30s.
	Heartbeat time.Duration
	// Poll is the time between two polls for a step.
	Poll time.Duration
	// Transport sends the requests. nil means HTTP with the environment's proxies.
	Transport http.RoundTripper
}

// FromEnvironment reads the real runner's environment variables.
func FromEnvironment(lookup func(string) (string, bool)) Config {
	get := func(name string) string { value, _ := lookup(name); return value }
	return Config{
		AccountUUID: get("ACCOUNT_UUID"), RepositoryUUID: get("REPOSITORY_UUID"), RunnerUUID: get("RUNNER_UUID"),
		ClientID: get("OAUTH_CLIENT_ID"), ClientSecret: get("OAUTH_CLIENT_SECRET"), TokenEndpoint: get("OAUTH_TOKEN_ENDPOINT"),
		WorkingDirectory: get("WORKING_DIRECTORY"), PrerequisitesEnabled: get("RUNTIME_PREREQUISITES_ENABLED"),
	}
}

// Validate reports all faults at once, with the names of the variables.
func (c Config) Validate() error {
	var faults []error
	for _, required := range []struct{ name, value string }{
		{"ACCOUNT_UUID", c.AccountUUID}, {"RUNNER_UUID", c.RunnerUUID}, {"OAUTH_CLIENT_ID", c.ClientID},
		{"OAUTH_CLIENT_SECRET", c.ClientSecret}, {"OAUTH_TOKEN_ENDPOINT", c.TokenEndpoint}, {"WORKING_DIRECTORY", c.WorkingDirectory},
	} {
		if required.value == "" {
			faults = append(faults, fmt.Errorf("%s: missing", required.name))
		}
	}
	for _, uuid := range []struct{ name, value string }{
		{"ACCOUNT_UUID", c.AccountUUID}, {"REPOSITORY_UUID", c.RepositoryUUID}, {"RUNNER_UUID", c.RunnerUUID},
	} {
		if uuid.value != "" && (!strings.HasPrefix(uuid.value, "{") || !strings.HasSuffix(uuid.value, "}")) {
			faults = append(faults, fmt.Errorf("%s: %q, want a UUID in braces", uuid.name, uuid.value))
		}
	}
	if c.TokenEndpoint != "" {
		if u, err := url.Parse(c.TokenEndpoint); err != nil || u.Scheme == "" || u.Host == "" {
			faults = append(faults, fmt.Errorf("OAUTH_TOKEN_ENDPOINT: %q, want a URL", c.TokenEndpoint))
		}
	}
	if c.PrerequisitesEnabled != "" {
		if _, err := strconv.ParseBool(c.PrerequisitesEnabled); err != nil {
			faults = append(faults, fmt.Errorf("RUNTIME_PREREQUISITES_ENABLED: %q, want true or false", c.PrerequisitesEnabled))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"heartbeat", c.Heartbeat}, {"poll", c.Poll}} {
		if d.value <= 0 {
			faults = append(faults, fmt.Errorf("%s: %s, want a positive duration", d.name, d.value))
		}
	}
	if c.Startup < 0 {
		faults = append(faults, fmt.Errorf("startup: %s, want 0s or more", c.Startup))
	}
	return errors.Join(faults...)
}
