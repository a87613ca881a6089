package emulator

import (
	"net/http"
	"strings"
	"testing"
)

func TestAnswersNameTheCredentialsAndTheirScopes(t *testing.T) {
	b := start(t, Options{})
	for name, c := range map[string]struct {
		auth   string
		status int // of GET /2.0/user
		kind   string
		scopes string
	}{
		"API token":              {basic(Email, APIToken), 200, "api_token", "read:workspace:bitbucket, read:user:bitbucket, read:repository:bitbucket, read:pipeline:bitbucket, read:runner:bitbucket, write:pipeline:bitbucket, write:runner:bitbucket, read:webhook:bitbucket, write:webhook:bitbucket, delete:webhook:bitbucket"},
		"read-only API token":    {basic(Email, ReadOnlyAPIToken), 200, "api_token", "read:workspace:bitbucket, read:user:bitbucket, read:repository:bitbucket, read:pipeline:bitbucket, read:runner:bitbucket"},
		"app password":           {basic(Username, AppPassword), 200, "apppassword", "account, repository, pipeline, runner, pipeline:write, runner:write, webhook"},
		"access token":           {bearerAccess, 403, "workspace_access_token", "account, repository, pipeline, runner, pipeline:write, runner:write, webhook"},
		"read-only access token": {"Bearer " + ReadOnlyToken, 403, "workspace_access_token", "account, repository, pipeline, runner"},
	} {
		t.Run(name, func(t *testing.T) {
			b.auth = c.auth
			got, err := b.try(http.MethodGet, "/2.0/user", "")
			if err != nil || got.status != c.status {
				t.Fatalf("got %+v, %v, want status %d", got, err, c.status)
			}
			if c.status == 200 && !strings.Contains(got.body, `"account_id":"`) {
				t.Errorf("no account in %s", got.body)
			}
			if kind, scopes := got.header.Get("X-Credential-Type"), got.header.Get("X-OAuth-Scopes"); kind != c.kind || scopes != c.scopes {
				t.Errorf("got %q with %q, want %q with %q", kind, scopes, c.kind, c.scopes)
			}
		})
	}
	b.auth = basic(Email, ReadOnlyAPIToken)
	got, err := b.try(http.MethodPost, workspaceRunners, `{"name":"r","labels":["self.hosted"]}`)
	if err != nil || got.status != 403 || !strings.Contains(got.body, `"required":["write:runner:bitbucket"]`) {
		t.Errorf("a write without its scope: got %+v, %v", got, err)
	}
}
