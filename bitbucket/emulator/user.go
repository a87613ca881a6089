package emulator

import (
	"net/http"
	"strings"
)

// Kinds of credentials, as the header X-Credential-Type names them. API tokens and
// access tokens were seen to be called so; the other two names are made up.
const (
	kindConsumer    = "oauth2"
	kindAPIToken    = "api_token"
	kindAppPassword = "apppassword"
	kindAccessToken = "workspace_access_token"
)

// tokenScopeNames are what API tokens call the scopes that OAuth consumers and
// access tokens have under shorter names.
var tokenScopeNames = map[string]string{
	scopeAccount:     "read:workspace:bitbucket",
	scopeUser:        "read:user:bitbucket",
	scopeRepository:  "read:repository:bitbucket",
	scopePipeline:    "read:pipeline:bitbucket",
	scopeRunnerRead:  "read:runner:bitbucket",
	scopeRunnerWrite: "write:runner:bitbucket",
}

// named is a scope as this kind of credentials calls it.
func (c credential) named(scope string) string {
	if c.kind == kindAPIToken {
		return tokenScopeNames[scope]
	}
	if scope == scopeUser {
		return scopeAccount // the others have one scope for both
	}
	return scope
}

// granted are the credential's scopes by their names.
func (c credential) granted() []string {
	names := make([]string, 0, len(c.scopes))
	for _, scope := range c.scopes {
		if name := c.named(scope); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

// scopeHeaders tell who called and what for, with a refusal too.
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

// userUUID is that of the account behind every credential that has one.
const userUUID = "{44444444-4444-4444-8444-444444444444}"

// getUser tells whose the credentials are. An access token is nobody's: it is
// refused, as seen live.
func (s *Server) getUser(c *call) answer {
	if c.credential.kind == kindAccessToken {
		return failure(http.StatusForbidden, "This resource is not available to access tokens.")
	}
	return jsonAnswer(http.StatusOK, userBody{
		Type: "user", UUID: userUUID, AccountID: "557058:44444444-4444-4444-8444-444444444444",
		Nickname: Username, DisplayName: "Dev of Example",
	})
}
