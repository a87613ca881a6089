// Package access knows the callers that the emulator accepts, and their scopes.
package access

import "slices"

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

// The scopes that routes require, by the names for OAuth consumers.
const (
	Account       = "account"
	User          = "account:user" // part of account, except for API tokens
	Repository    = "repository"
	Pipeline      = "pipeline"
	PipelineWrite = "pipeline:write"
	Runner        = "runner"
	RunnerWrite   = "runner:write"
	Webhook       = "webhook"
	WebhookWrite  = "webhook:write"  // part of webhook, except for API tokens
	WebhookDelete = "webhook:delete" // the same
)

// Credential identifies a caller. Each has its own hourly limit.
type Credential struct {
	Name, Kind string
	Scopes     []string
}

// Lacks reports whether the caller lacks a scope.
func (c Credential) Lacks(scope string) bool { return !slices.Contains(c.Scopes, scope) }

var (
	readScopes = []string{Account, User, Repository, Pipeline, Runner}
	// allScopes contains the scopes to read too, because those to write do not include
	// them.
	allScopes = append(slices.Clone(readScopes), PipelineWrite, RunnerWrite, Webhook, WebhookWrite, WebhookDelete)

	// Consumer is the caller with a token of the OAuth consumer.
	Consumer         = Credential{Name: "consumer " + OAuthClientID, Kind: consumer, Scopes: allScopes}
	basicCredentials = map[string]Credential{
		Email + ":" + APIToken:         {Name: "user " + Email, Kind: apiToken, Scopes: allScopes},
		Email + ":" + ReadOnlyAPIToken: {Name: "user " + Email, Kind: apiToken, Scopes: readScopes},
		Username + ":" + AppPassword:   {Name: "user " + Username, Kind: appPassword, Scopes: allScopes},
	}
	accessTokens = map[string]Credential{
		AccessToken:   {Name: "access token", Kind: KindAccessToken, Scopes: allScopes},
		ReadOnlyToken: {Name: "read-only access token", Kind: KindAccessToken, Scopes: readScopes},
	}
)

// The kinds of credentials in the header X-Credential-Type. Those of API tokens and access
// tokens were observed at Bitbucket. The other two names are made up.
const (
	consumer        = "oauth2"
	apiToken        = "api_token"
	appPassword     = "apppassword"
	KindAccessToken = "workspace_access_token"
)

// tokenScopeNames maps the scopes of OAuth consumers and access tokens to their names for
// API tokens.
var tokenScopeNames = map[string]string{
	Account:       "read:workspace:bitbucket",
	User:          "read:user:bitbucket",
	Repository:    "read:repository:bitbucket",
	Pipeline:      "read:pipeline:bitbucket",
	PipelineWrite: "write:pipeline:bitbucket",
	Runner:        "read:runner:bitbucket",
	RunnerWrite:   "write:runner:bitbucket",
	Webhook:       "read:webhook:bitbucket",
	WebhookWrite:  "write:webhook:bitbucket",
	WebhookDelete: "delete:webhook:bitbucket",
}

// Named returns the name of a scope for this kind of credentials.
func (c Credential) Named(scope string) string {
	if c.Kind == apiToken {
		return tokenScopeNames[scope]
	}
	switch scope { // the other kinds have one scope for all of these
	case User:
		return Account
	case WebhookWrite, WebhookDelete:
		return Webhook
	}
	return scope
}

// Granted returns the names of the credential's scopes.
func (c Credential) Granted() []string {
	names := make([]string, 0, len(c.Scopes))
	for _, scope := range c.Scopes {
		if name := c.Named(scope); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

// Basic returns the caller with a user name and a password.
func Basic(user, password string) (c Credential, ok bool) {
	c, ok = basicCredentials[user+":"+password]
	return c, ok
}

// Bearer returns the caller with an access token.
func Bearer(token string) (c Credential, ok bool) {
	c, ok = accessTokens[token]
	return c, ok
}
