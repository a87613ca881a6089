package emulator

import (
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestOnlyKnownCredentialsAreAccepted(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	for name, c := range map[string]struct {
		auth   string
		status int
	}{
		"API token":       {basic("dev@example.com", "emulator-token"), 200},
		"app password":    {basic("dev", "emulator-app-password"), 200},
		"access token":    {"Bearer emulator-access-token", 200},
		"read-only token": {"Bearer emulator-readonly-token", 200},
		"none":            {"", 401},
		"wrong password":  {basic("dev@example.com", "x"), 401},
		"unknown bearer":  {"Bearer x", 401},
	} {
		t.Run(name, func(t *testing.T) {
			b.auth = c.auth
			b.call(c.status, "GET", workspaceRunners, "")
		})
	}
}

func TestConsumersTokenExpires(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	const path = "/site/oauth2/access_token"
	for name, c := range map[string]struct{ auth, body, want string }{
		"wrong secret": {basic(OAuthClientID, "x"), "grant_type=client_credentials", "invalid_grant"},
		"wrong grant":  {basic(OAuthClientID, OAuthClientSecret), "grant_type=password", "unsupported_grant_type"},
	} {
		b.auth = c.auth
		if got := decode[oauthError](t, b.call(400, "POST", path, c.body).body); got.Error != c.want {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
	b.auth = basic(OAuthClientID, OAuthClientSecret)
	token := decode[oauthToken](t, b.call(200, "POST", path, "grant_type=client_credentials").body)
	if token.ExpiresIn != 7200 || token.TokenType != "bearer" {
		t.Errorf("token %+v, want 7200 s of bearer", token)
	}
	b.auth = "Bearer " + token.AccessToken
	b.register(workspaceRunners, "r")
	b.clock.Step(7200 * time.Second)
	b.call(401, "GET", workspaceRunners, "")
}

func TestMissingScopeIsNamed(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	uuid := b.online()
	b.auth = "Bearer " + ReadOnlyToken
	for method, path := range map[string]string{"POST": workspaceRunners, "DELETE": runnerPath(uuid), "PUT": statePath(uuid)} {
		r := b.call(403, method, path, `{}`)
		got := decode[struct {
			Error struct {
				Detail struct{ Required, Granted []string }
			}
		}](t, r.body).Error.Detail
		if !cmp.Equal(got.Required, []string{"runner:write"}) || len(got.Granted) == 0 {
			t.Errorf("%s: %s", method, r.body)
		}
	}
}

func TestEachCredentialHasItsOwnHourlyLimit(t *testing.T) {
	t.Parallel()
	b := start(t, Options{RateLimit: 5})
	for range 5 {
		if h := b.call(200, "GET", workspaceRunners, "").header; h.Get("X-RateLimit-Limit") != "5" {
			t.Errorf("headers %v, want the limit", h)
		}
		b.clock.Step(time.Minute)
	}
	r := b.call(429, "GET", workspaceRunners, "")
	if got := r.header.Get("Content-Type"); got != kindText {
		t.Errorf("content type %q, want plain text", got)
	}
	if r.header.Get("X-RateLimit-NearLimit") != "true" || r.header.Get("Retry-After") != "" {
		t.Errorf("headers %v", r.header)
	}
	b.auth = basic(Email, APIToken)
	if h := b.call(200, "GET", workspaceRunners, "").header; h.Get("X-RateLimit-Limit") != "" {
		t.Errorf("headers %v with basic authentication, want no limit", h)
	}
	b.auth = bearerAccess
	b.clock.Step(55 * time.Minute) // an hour after the first
	b.call(200, "GET", workspaceRunners, "")
	b.call(429, "GET", workspaceRunners, "")
	counters := b.server.State().Counters
	if counters.TooManyRequests != 2 || counters.Calls["GET /2.0/workspaces/{workspace}/pipelines-config/runners"] != 9 {
		t.Errorf("counters %+v, want 2 refused of 9 calls", counters)
	}
}

func TestDateHeaderUsesTheEmulatorsClock(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	want := b.clock.Now().Format(http.TimeFormat)
	if got := b.call(200, "GET", workspaceRunners, "").header.Get("Date"); got != want {
		t.Errorf("Date %q, want %q", got, want)
	}
}
