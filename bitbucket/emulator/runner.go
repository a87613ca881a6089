package emulator

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// The statuses of Bitbucket's schema pipelines_runner_state.
const (
	statusUnregistered = "UNREGISTERED"
	statusOnline       = "ONLINE"
	statusOffline      = "OFFLINE"
	statusUnhealthy    = "UNHEALTHY"
	statusDisabled     = "DISABLED"
	statusEnabled      = "ENABLED"
)

const (
	// maxRunners is Bitbucket's limit per workspace and per repository.
	maxRunners = 100
	// runnerVersion is the version that connected runners report.
	runnerVersion = "6.0.7"
)

// runner is a registered runner.
type runner struct {
	uuid, name string
	// labels is never changed in place.
	labels []string
	// labelSet contains the labels, sorted and joined.
	labelSet                             string
	scope                                *scope
	createdOn, updatedOn, stateUpdatedOn time.Time
	clientID, secret                     string

	// link is the status apart from disabling.
	link     string
	disabled bool
	// cordoned means that the runner may not accept new steps, whatever its status.
	cordoned bool
	// session is the token of the last process that authenticated.
	session string
	// byHand means that the runner has no process and misses no heartbeat.
	byHand bool
	// born and seen are the times of the first and the last call of the current process.
	born, seen time.Time
	// gone means that the process has ended and Bitbucket does not know it yet.
	gone     bool
	lastBeat time.Time
	// step is the UUID of its step. running is nil if the step was set by hand with a
	// UUID that the emulator does not know.
	step       string
	running    *pipelines.Step
	stepsTaken int
}

// status returns the status that Bitbucket shows. A disabled runner stays DISABLED if its
// heartbeat is lost.
func (r *runner) status() string {
	if r.disabled {
		return statusDisabled
	}
	return r.link
}

// connected reports whether the runner's heartbeats arrive.
func (r *runner) connected() bool { return r.link == statusOnline || r.link == statusUnhealthy }

// takesSteps reports whether the runner is ONLINE, enabled and not cordoned, so that
// steps can wait for it.
func (r *runner) takesSteps() bool { return r.link == statusOnline && !r.disabled && !r.cordoned }

// body returns a runner's JSON without its secret, which only the registration returns.
func (s *Server) body(r *runner, base string) resource.Runner {
	b := resource.Runner{
		Type: "pipeline_runner", UUID: r.uuid, Name: r.name, Labels: r.labels,
		State:     resource.RunnerState{Type: "pipeline_runner_state", Status: r.status(), UpdatedOn: r.stateUpdatedOn.UTC(), Cordoned: r.cordoned},
		CreatedOn: r.createdOn.UTC(), UpdatedOn: r.updatedOn.UTC(),
		OAuthClient: resource.OAuthClient{ID: r.clientID, TokenEndpoint: base + runnerTokenPath, Audience: "api.atlassian.com"},
	}
	if r.link != statusUnregistered {
		b.State.Version = &resource.RunnerVersion{Version: runnerVersion, Current: runnerVersion}
	}
	if r.step != "" && !s.options.HideStep {
		b.State.Step = &resource.StepRef{Type: "PIPELINE_STEP", UUID: r.step}
	}
	return b
}

var (
	uuidPattern = regexp.MustCompile(`^\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}$`)
	slugPattern = regexp.MustCompile(`^[a-z0-9._-]+$`)
)

// newUUID returns a random UUID in braces.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("{%x-%x-%x-%x-%x}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newSecret returns a random secret.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
