package emulator

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/place"
)

// The credentials that the emulator accepts. It answers all others with 401.
const (
	OAuthClientID     = access.OAuthClientID
	OAuthClientSecret = access.OAuthClientSecret
	Email             = access.Email
	APIToken          = access.APIToken
	ReadOnlyAPIToken  = access.ReadOnlyAPIToken
	Username          = access.Username
	AppPassword       = access.AppPassword
	AccessToken       = access.AccessToken
	ReadOnlyToken     = access.ReadOnlyToken
)

// The UUIDs of the workspace acme and its repositories app and web.
const (
	WorkspaceUUID     = place.WorkspaceUUID
	AppRepositoryUUID = place.AppRepositoryUUID
	WebRepositoryUUID = place.WebRepositoryUUID
)

// Workspace is a workspace that exists: see package place, whose Acmes returns as many as are asked for.
type Workspace = place.Workspace

// Repository is a repository of a workspace.
type Repository = place.Repository

// Options configure an emulator. The zero value of each field means its default.
type Options struct {
	// PublicURL is the base of the links and token endpoints in the emulator's answers,
	// such as http://host:port. Default: the request's host.
	PublicURL string
	// HideStep omits state.step from all runners, because it is not known whether
	// Bitbucket's public API returns it.
	HideStep bool
	// AssignLag is how long a step shows on a runner before the runner receives it.
	// Default 5s. A negative value means no lag.
	AssignLag time.Duration
	// OfflineAfter is how long after its last heartbeat a runner becomes OFFLINE.
	// Default 90s. Bitbucket takes 1 to 2 minutes.
	OfflineAfter time.Duration
	// RateLimit is how many calls a credential may make per rolling hour.
	// Default 1000. A negative value means no limit.
	RateLimit int
	// TokenLifetime is how long an OAuth consumer's token is valid. Default 7200s.
	TokenLifetime time.Duration
	// KeepSteps is approximately how many ended steps are kept. Default 10000.
	KeepSteps int
	// AddLabels adds self.hosted and linux to a registration that lacks them. Sources
	// differ about Bitbucket. By default such a registration is refused.
	AddLabels bool
	// RenameOnPut makes PUT of a runner change its name. What a body may change is not
	// documented. By default it is nothing.
	RenameOnPut bool
	// WaitOffline makes a step wait if a matching runner is registered, although none is
	// ONLINE. By default the step fails at once, as documented.
	WaitOffline bool
	// StepStages says which PENDING steps show a stage. Default none.
	StepStages pipelines.StepStages
	// ParseLag is how long a pipeline that was pushed or started is PARSING. Default 2s.
	// A negative value means no lag.
	ParseLag time.Duration
	// WebhooksAnywhere allows webhooks at addresses other than loopback.
	WebhooksAnywhere bool
	// Workspaces are the workspaces that exist. Default: acme with app and web.
	Workspaces []Workspace
	// Clock is the clock. Default: the real clock.
	Clock clock.Clock
}

const (
	defaultAssignLag     = 5 * time.Second
	defaultOfflineAfter  = 90 * time.Second
	defaultRateLimit     = 1000
	defaultTokenLifetime = 7200 * time.Second
	defaultKeepSteps     = 10_000
	defaultParseLag      = 2 * time.Second
)

// Validate reports all faults of the options at once.
func (o Options) Validate() error {
	var faults []error
	if o.PublicURL != "" {
		u, err := url.Parse(o.PublicURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			faults = append(faults, fmt.Errorf("public URL: %q, want http(s)://host[:port]", o.PublicURL))
		}
	}
	if o.OfflineAfter < 0 {
		faults = append(faults, fmt.Errorf("offline after: %s, want a positive duration", o.OfflineAfter))
	}
	if o.TokenLifetime < 0 {
		faults = append(faults, fmt.Errorf("token lifetime: %s, want a positive duration", o.TokenLifetime))
	}
	if o.KeepSteps < 0 {
		faults = append(faults, fmt.Errorf("steps to keep: %d, want 0 or more", o.KeepSteps))
	}
	if !slices.Contains([]pipelines.StepStages{"", pipelines.StagesNone, pipelines.StagesReached, pipelines.StagesAll}, o.StepStages) {
		faults = append(faults, fmt.Errorf("step stages: %q, want none, reached or all", o.StepStages))
	}
	faults = append(faults, place.Validate(o.Workspaces))
	return errors.Join(faults...)
}

func (o Options) withDefaults() Options {
	if o.AssignLag == 0 {
		o.AssignLag = defaultAssignLag
	}
	o.AssignLag = max(o.AssignLag, 0)
	if o.OfflineAfter <= 0 {
		o.OfflineAfter = defaultOfflineAfter
	}
	if o.RateLimit == 0 {
		o.RateLimit = defaultRateLimit
	}
	if o.TokenLifetime <= 0 {
		o.TokenLifetime = defaultTokenLifetime
	}
	if o.KeepSteps <= 0 {
		o.KeepSteps = defaultKeepSteps
	}
	if o.ParseLag == 0 {
		o.ParseLag = defaultParseLag
	}
	o.ParseLag = max(o.ParseLag, 0)
	if o.StepStages == "" {
		o.StepStages = pipelines.StagesNone
	}
	if len(o.Workspaces) == 0 {
		o.Workspaces = place.Acmes(1)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}
