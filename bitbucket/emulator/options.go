package emulator

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"k8s.io/utils/clock"
)

// The credentials that the emulator accepts. It answers all others with 401.
const (
	// OAuthClientID and OAuthClientSecret belong to an OAuth consumer.
	OAuthClientID     = "emulator-client"
	OAuthClientSecret = "emulator-secret"
	// Email and APIToken belong to an Atlassian account. ReadOnlyAPIToken belongs to the
	// same account and lacks the scope to write.
	Email            = "dev@example.com"
	APIToken         = "emulator-token"          //nolint:gosec // valid only at the emulator
	ReadOnlyAPIToken = "emulator-readonly-token" //nolint:gosec // valid only at the emulator
	// Username and AppPassword belong to a Bitbucket account.
	Username    = "dev"
	AppPassword = "emulator-app-password" //nolint:gosec // valid only at the emulator
	// AccessToken has all scopes. ReadOnlyToken lacks the scopes to write.
	AccessToken   = "emulator-access-token"
	ReadOnlyToken = "emulator-readonly-token" //nolint:gosec // valid only at the emulator
)

// The UUIDs of the workspace acme and its repositories app and web.
const (
	WorkspaceUUID     = "{11111111-1111-4111-8111-111111111111}"
	AppRepositoryUUID = "{22222222-2222-4222-8222-222222222222}"
	WebRepositoryUUID = "{33333333-3333-4333-8333-333333333333}"
)

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
	// Workspaces are the workspaces that exist. Default: acme with app and web.
	Workspaces []Workspace
	// Clock is the clock. Default: the real clock.
	Clock clock.Clock
}

// Workspace is a workspace that exists. Both names are required.
type Workspace struct {
	// UUID is in braces.
	UUID, Slug   string
	Repositories []Repository
}

// Repository is a repository of a workspace. Both names are required.
type Repository struct {
	// UUID is in braces.
	UUID, Slug string
}

const (
	defaultAssignLag     = 5 * time.Second
	defaultOfflineAfter  = 90 * time.Second
	defaultRateLimit     = 1000
	defaultTokenLifetime = 7200 * time.Second
	defaultKeepSteps     = 10_000
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
	for _, w := range o.Workspaces {
		if w.Slug == "" || !uuidPattern.MatchString(w.UUID) {
			faults = append(faults, fmt.Errorf("workspace: slug %q, uuid %q, want a slug and a {uuid}", w.Slug, w.UUID))
		}
		for _, r := range w.Repositories {
			if r.Slug == "" || !uuidPattern.MatchString(r.UUID) {
				faults = append(faults, fmt.Errorf("repository of %s: slug %q, uuid %q, want a slug and a {uuid}", w.Slug, r.Slug, r.UUID))
			}
		}
	}
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
	if len(o.Workspaces) == 0 {
		o.Workspaces = []Workspace{{
			UUID: WorkspaceUUID, Slug: "acme",
			Repositories: []Repository{{UUID: AppRepositoryUUID, Slug: "app"}, {UUID: WebRepositoryUUID, Slug: "web"}},
		}}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}
