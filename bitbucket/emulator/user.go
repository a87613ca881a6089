package emulator

import (
	"net/http"
	"strings"
)

// The kinds of credentials in the header X-Credential-Type. Those of API tokens and access
// tokens were observed at Bitbucket. The other two names are made up.
const (
	kindConsumer    = "oauth2"
	kindAPIToken    = "api_token"
	kindAppPassword = "apppassword"
	kindAccessToken = "workspace_access_token"
)

// tokenScopeNames maps the scopes of OAuth consumers and access tokens to their names for
// API tokens.
var tokenScopeNames = map[string]string{
	scopeAccount:     "read:workspace:bitbucket",
	scopeUser:        "read:user:bitbucket",
	scopeRepository:  "read:repository:bitbucket",
	scopePipeline:    "read:pipeline:bitbucket",
	scopeRunnerRead:  "read:runner:bitbucket",
	scopeRunnerWrite: "write:runner:bitbucket",
}

// named returns the name of a scope for this kind of credentials.
func (c credential) named(scope string) string {
	if c.kind == kindAPIToken {
		return tokenScopeNames[scope]
	}
	if scope == scopeUser {
		return scopeAccount // the other kinds have one scope for both
	}
	return scope
}

// granted returns the names of the credential's scopes.
func (c credential) granted() []string {
	names := make([]string, 0, len(c.scopes))
	for _, scope := range c.scopes {
		if name := c.named(scope); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

// scopeHeaders adds the headers with the kind and scopes of the credentials, also to
// refusals.
func scopeHeaders(c *call, accepted string, a *answer) {
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header["X-Credential-Type"] = c.credential.kind
	a.header["X-OAuth-Scopes"] = strings.Join(c.credential.granted(), ", ")
	a.header["X-Accepted-OAuth-Scopes"] = c.credential.named(accepted)
}

type userBody struct {
	Type        string `json:"type"`
	UUID        string `json:"uuid"`
	AccountID   string `json:"account_id"`
	Nickname    string `json:"nickname"`
	DisplayName string `json:"display_name"`
}

// userUUID is the UUID of the account to which all credentials with an account belong.
const userUUID = "{44444444-4444-4444-8444-444444444444}"

// getUser returns the account of the credentials. An access token has no account and is
// refused, as observed at Bitbucket.
func (s *Server) getUser(c *call) answer {
	if c.credential.kind == kindAccessToken {
		return failure(http.StatusForbidden, "This resource is not available to access tokens.")
	}
	return jsonAnswer(http.StatusOK, userBody{
		Type: "user", UUID: userUUID, AccountID: "557058:44444444-4444-4444-8444-444444444444",
		Nickname: Username, DisplayName: "Dev of Example",
	})
}
