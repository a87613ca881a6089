package bitbucket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestExchangeReturnsTheAnswerWithAnyStatus(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("X-OAuth-Scopes", "runner, account")
		switch r.Method {
		case http.MethodGet:
			answer(w, http.StatusOK, `{"uuid":"x"}`)
		case http.MethodPut:
			answer(w, http.StatusMethodNotAllowed, apiError("not with "+tokenOnly.AccessToken.Reveal(), ""))
		default:
			answer(w, http.StatusForbidden, `{"type":"error","error":{"message":"scopes","detail":{"required":["runner:write"],"granted":["runner"]}}}`)
		}
	})
	client := server.client(t, nil)
	for method, want := range map[string]struct {
		status            int
		body, message     string
		required, granted []string
	}{
		http.MethodGet:    {status: 200, body: `{"uuid":"x"}`},
		http.MethodPut:    {status: 405, message: "not with [redacted]"},
		http.MethodDelete: {status: 403, message: `scopes ({"required":["runner:write"],"granted":["runner"]})`, required: []string{"runner:write"}, granted: []string{"runner"}},
	} {
		t.Run(method, func(t *testing.T) {
			request, err := RunnerRequest(method, acme, runnerUUID, false)
			if err != nil {
				t.Fatal(err)
			}
			got, err := client.Exchange(t.Context(), request)
			if err != nil || got.Status != want.status || got.OK() != (want.status == 200) || got.Message != want.message {
				t.Errorf("got %d %q, %v", got.Status, got.Message, err)
			}
			if want.body != "" && string(got.Body) != want.body {
				t.Errorf("body %q, want %q", got.Body, want.body)
			}
			if !slices.Equal(got.Required, want.required) || !slices.Equal(got.Granted, want.granted) {
				t.Errorf("required %q, granted %q", got.Required, got.Granted)
			}
			if !slices.Equal(got.NamedScopes(), []string{"account", "runner"}) {
				t.Errorf("named scopes %q", got.NamedScopes())
			}
		})
	}
}

func TestExchangeRefusesOtherPaths(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, http.StatusOK, "{}") }).client(t, nil)
	if _, err := client.Exchange(t.Context(), Request{Method: http.MethodGet, Path: "/site/x"}); err == nil || !strings.Contains(err.Error(), "is not below") {
		t.Errorf("a path outside the API: got %v", err)
	}
	for _, uuid := range []string{"", "..", "a/b"} {
		if _, err := RunnerRequest(http.MethodDelete, acme, uuid, true); err == nil {
			t.Errorf("runner %q was accepted", uuid)
		}
	}
}

func TestRegistrationWithoutAnAnswerHasAnUnknownOutcome(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { hangUp(t, w) })
	_, err := server.client(t, nil).Exchange(t.Context(), RunnersRequest(http.MethodPost, acme, false))
	if !errors.Is(err, ErrOutcomeUnknown) || len(server.seen()) != 1 {
		t.Errorf("got %v after %d calls, want an unknown outcome after one", err, len(server.seen()))
	}
}

func TestGrantedScopesAreThoseOfTheToken(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   []string
	}{
		"scopes":    {`"scopes":"runner:write account,runner"`, []string{"account", "runner", "runner:write"}},
		"scope":     {`"scope":"account"`, []string{"account"}},
		"no scopes": {`"x":1`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"access_token":"t","expires_in":7200,"token_type":"bearer",`+c.answer+`}`)
			})
			client := server.client(t, func(cfg *Config) {
				cfg.Credentials = Credentials{OAuthClientID: "id", OAuthClientSecret: "secret"}
			})
			got, err := client.GrantedScopes(t.Context())
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	client := serve(t, func(http.ResponseWriter, *http.Request, int) { t.Error("a call was made") }).client(t, nil)
	if got, err := client.GrantedScopes(context.Background()); got != nil || err != nil {
		t.Errorf("an access token: got %q, %v, want nothing", got, err)
	}
}
