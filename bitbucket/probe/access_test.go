package probe

import (
	"encoding/json"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// access checks credentials in the given scopes. It fails the test if the result contains
// a secret or something changed at Bitbucket.
func (s *stage) access(t *testing.T, credentials bitbucket.Credentials, scopes ...bitbucket.Scope) Account {
	t.Helper()
	s.register(t, "others")
	if err := s.control.SetFaults(t.Context(), s.rules); err != nil {
		t.Fatal(err)
	}
	account := Access(t.Context(), s.client(t, credentials), credentials, scopes)
	s.nothingIsLeft(t, "others")
	text, err := json.Marshal(account)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []bitbucket.Secret{credentials.OAuthClientSecret, credentials.APIToken, credentials.AppPassword, credentials.AccessToken} {
		if secret != "" && strings.Contains(string(text), secret.Reveal()) {
			t.Errorf("a secret is shown: %s", text)
		}
	}
	return account
}

func TestValidCredentialsOfEveryKindLackNothing(t *testing.T) {
	both := []bitbucket.Scope{{Workspace: "acme"}, {Workspace: "acme", Repository: "app"}}
	for name, c := range map[string]struct {
		who, scope string
		limit      int
	}{
		"OAuth consumer": {"consumer emulator-client, Dev of Example, 557058:44444444-4444-4444-8444-444444444444 (oauth2)", "runner:write", 0},
		"API token":      {"dev@example.com, Dev of Example, 557058:44444444-4444-4444-8444-444444444444 (api token)", "write:runner:bitbucket", 0},
		"app password":   {"dev, Dev of Example, 557058:44444444-4444-4444-8444-444444444444 (apppassword)", "runner:write", 0},
		"access token":   {"the token's own account (workspace access token)", "runner:write", 1000},
	} {
		t.Run(name, func(t *testing.T) {
			got := newStage(t, emulator.Options{}, kinds["access token"]).access(t, kinds[name], both...)
			if got.Who != c.who || got.Hourly.Limit != c.limit || got.Hourly.Calls == 0 || got.Deprecated != (name == "app password") {
				t.Errorf("got %q, %+v, deprecated %t", got.Who, got.Hourly, got.Deprecated)
			}
			if len(got.Faults) > 0 || got.Unclear != "" || len(got.Works) != 7 {
				t.Errorf("faults %q, unclear %q, works %+v", got.Faults, got.Unclear, got.Works)
			}
			for _, need := range got.Needs {
				if need.Has != HasYes {
					t.Errorf("%s: %s", need.Scope, need.Has)
				}
			}
			if !strings.Contains(strings.Join(got.Scopes, " "), c.scope) || got.Works[1].Said != "1 registered, room for 99" {
				t.Errorf("scopes %q, works %+v", got.Scopes, got.Works)
			}
		})
	}
}

func TestFaultsOfCredentialsAreReported(t *testing.T) {
	acme, app := bitbucket.Scope{Workspace: "acme"}, bitbucket.Scope{Workspace: "acme", Repository: "app"}
	for name, c := range map[string]struct {
		credentials     bitbucket.Credentials
		scopes          []bitbucket.Scope
		options         emulator.Options
		faults          []emulator.FaultRule
		fault, unclear  string // empty: none
		without, exists string // scopes that it lacks, that it has
	}{
		"refused":                         {credentials: bitbucket.Credentials{AccessToken: "not-known"}, scopes: []bitbucket.Scope{acme}, fault: "credentials were refused: 401: Token is invalid"},
		"refused without a scope":         {credentials: bitbucket.Credentials{AccessToken: "not-known"}, fault: "credentials were refused: 401"},
		"a consumer that is refused":      {credentials: bitbucket.Credentials{OAuthClientID: "a", OAuthClientSecret: "not-known"}, fault: "the OAuth consumer must be private"},
		"a token that only reads":         {credentials: bitbucket.Credentials{AccessToken: emulator.ReadOnlyToken}, scopes: []bitbucket.Scope{acme}, fault: "lacks the scope runner:write, for registering", without: "runner:write", exists: "runner"},
		"read-only without scopes to try": {credentials: bitbucket.Credentials{AccessToken: emulator.ReadOnlyToken}, fault: "lacks the scope runner:write", without: "runner:write", exists: "runner"},
		"an API token that only reads":    {credentials: bitbucket.Credentials{AccountEmail: emulator.Email, APIToken: emulator.ReadOnlyAPIToken}, scopes: []bitbucket.Scope{app}, fault: "lacks the scope write:runner:bitbucket", without: "write:runner:bitbucket", exists: "read:runner:bitbucket"},
		"no such workspace":               {credentials: kinds["API token"], scopes: []bitbucket.Scope{{Workspace: "nobody"}}, fault: "nobody: list runners: 404"},
		"no such repository":              {credentials: kinds["API token"], scopes: []bitbucket.Scope{{Workspace: "acme", Repository: "no"}}, fault: "acme/no: resolve the slug no: 404"},
		"no access to the account":        {credentials: kinds["access token"], scopes: []bitbucket.Scope{acme}, faults: []emulator.FaultRule{{Path: "/2.0/user", Status: 401}}, exists: "runner:write"},
		"slugs cannot be resolved":        {credentials: kinds["access token"], scopes: []bitbucket.Scope{acme}, faults: []emulator.FaultRule{{Path: "/2.0/workspaces/acme", Status: 403}}, fault: "given as {uuid} it needs no such call", without: "account"},
		"UUIDs need no resolving":         {credentials: kinds["access token"], scopes: []bitbucket.Scope{{Workspace: emulator.WorkspaceUUID}}, faults: []emulator.FaultRule{{Path: "/2.0/workspaces/acme", Status: 403}}, exists: "account"},
		"pipelines are optional":          {credentials: kinds["access token"], scopes: []bitbucket.Scope{app}, faults: []emulator.FaultRule{{Path: "*/pipelines", Status: 403}}, without: "pipeline"},
		"throttled":                       {credentials: kinds["access token"], scopes: []bitbucket.Scope{acme}, faults: []emulator.FaultRule{{Path: "*/runners", Status: 429}}, unclear: "the calls of the hour are used up"},
		"unreachable":                     {credentials: kinds["access token"], scopes: []bitbucket.Scope{acme}, faults: []emulator.FaultRule{{Status: 503}}, unclear: "503"},
		"the token endpoint unreachable":  {credentials: kinds["OAuth consumer"], scopes: []bitbucket.Scope{acme}, faults: []emulator.FaultRule{{Path: "/site/*", Status: 503}}, unclear: "503"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, c.options, kinds["access token"])
			s.rules = c.faults
			got := s.access(t, c.credentials, c.scopes...)
			if text := strings.Join(got.Faults, "\n"); !strings.Contains(text, c.fault) || c.fault == "" && text != "" {
				t.Errorf("faults %q, want %q", text, c.fault)
			}
			if !strings.Contains(got.Unclear, c.unclear) || c.unclear == "" && got.Unclear != "" {
				t.Errorf("unclear %q, want %q", got.Unclear, c.unclear)
			}
			for _, need := range got.Needs {
				if need.Scope == c.without && need.Has != HasNo || need.Scope == c.exists && need.Has != HasYes {
					t.Errorf("%s: %s", need.Scope, need.Has)
				}
			}
		})
	}
}

func TestScopeToReadIsUnknownIfOnlyTheScopeToWriteIsNamed(t *testing.T) {
	a := access{account: Account{Kind: bitbucket.KindOAuthConsumer, Scopes: []string{"pipeline:write", "runner:write"}}}
	a.judge()
	for _, need := range a.account.Needs {
		want := map[string]Has{"runner": HasUnknown, "runner:write": HasYes, "account": HasNo, "repository": HasNo, "pipeline": HasUnknown}[need.Scope]
		if need.Has != want {
			t.Errorf("%s: %s, want %s", need.Scope, need.Has, want)
		}
	}
	if len(a.account.Faults) > 0 {
		t.Errorf("faults %q", a.account.Faults)
	}
}
