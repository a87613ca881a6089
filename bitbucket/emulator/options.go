package emulator

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"k8s.io/utils/clock"
)

// Credentials that the emulator accepts; everything else is a 401.
const (
	// OAuthClientID and OAuthClientSecret are those of an OAuth consumer.
	OAuthClientID     = "emulator-client"
	OAuthClientSecret = "emulator-secret"
	// Email and APIToken are those of an Atlassian API token; ReadOnlyAPIToken of
	// the same account lacks the scope to write.
	Email            = "dev@example.com"
	APIToken         = "emulator-token"          //nolint:gosec // of the emulator alone
	ReadOnlyAPIToken = "emulator-readonly-token" //nolint:gosec // of the emulator alone
	// Username and AppPassword are those of an app password.
	Username    = "dev"
	AppPassword = "emulator-app-password" //nolint:gosec // of the emulator alone
	// AccessToken may do everything, ReadOnlyToken lacks the scopes to write.
	AccessToken   = "emulator-access-token"
	ReadOnlyToken = "emulator-readonly-token" //nolint:gosec // of the emulator alone
)

// UUIDs of the workspace acme and its repositories app and web.
const (
	WorkspaceUUID     = "{11111111-1111-4111-8111-111111111111}"
	AppRepositoryUUID = "{22222222-2222-4222-8222-222222222222}"
	WebRepositoryUUID = "{33333333-3333-4333-8333-333333333333}"
)

// Options are an emulator's settings. The zero value of each field is its default.
type Options struct {
	// PublicURL is the base of the links and token endpoints that the emulator
	// hands out, as http://host:port. Default: the host that the request named.
	PublicURL string
	// HideStep leaves state.step out of all runners, since it is not known
	// whether Bitbucket's public API returns it.
	HideStep bool
	// AssignLag is how long a step shows on a runner before the runner learns of
	// it. Default 5s; negative: none.
	AssignLag time.Duration
	// OfflineAfter is how long after its last heartbeat a runner becomes OFFLINE.
	// Default 90s (the real one: 1 to 2 minutes).
	OfflineAfter time.Duration
	// RateLimit is how many calls a credential may make in a rolling hour.
	// Default 1000; negative: any number.
	RateLimit int
	// TokenLifetime is how long an OAuth consumer's token lives. Default 7200s.
	TokenLifetime time.Duration
	// KeepSteps is about how many ended steps are remembered. Default 10000.
	KeepSteps int
	// Workspaces are those that exist. Default: acme with app and web.
	Workspaces []Workspace
	// Clock tells the time. Default: the real one.
	Clock clock.Clock
}

// Workspace is a workspace that exists. Both names are required.
type Workspace struct {
	// UUID with braces.
	UUID, Slug   string
	Repositories []Repository
}

// Repository is a repository of a workspace. Both names are required.
type Repository struct {
	// UUID with braces.
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
