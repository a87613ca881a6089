package emulator

import (
	"net/http"
	"strings"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
)

// scopeHeaders adds the headers with the kind and scopes of the credentials, also to
// refusals.
func scopeHeaders(c *call, accepted string, a *answer) {
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header["X-Credential-Type"] = c.credential.Kind
	a.header["X-OAuth-Scopes"] = strings.Join(c.credential.Granted(), ", ")
	a.header["X-Accepted-OAuth-Scopes"] = c.credential.Named(accepted)
}

// getUser returns the account of the credentials. An access token has no account and is
// refused, as observed at Bitbucket.
func (s *Server) getUser(c *call) answer {
	if c.credential.Kind == access.KindAccessToken {
		return failure(http.StatusForbidden, "This resource is not available to access tokens.")
	}
	return jsonAnswer(http.StatusOK, c.site().User(Username))
}
