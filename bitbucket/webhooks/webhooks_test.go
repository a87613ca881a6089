package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

func newClient(t *testing.T, url, token string) *bitbucket.Client {
	t.Helper()
	client, err := bitbucket.NewClient(bitbucket.Config{BaseURL: url, Credentials: bitbucket.Credentials{AccessToken: bitbucket.Secret(token)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

var acme = bitbucket.Scope{Workspace: "acme"}

func TestAWebhookIsCreatedChangedAndDeleted(t *testing.T) {
	t.Parallel()
	url, _ := emulator.NewTestServer(t, emulator.Options{})
	client := newClient(t, url, emulator.AccessToken)
	for _, scope := range []bitbucket.Scope{acme, {Workspace: "acme", Repository: "app"}} {
		settings := Settings{Description: "d", URL: "https://example.com/", Events: Events(), Secret: "a-secret"}
		made, err := Create(t.Context(), client, scope, settings)
		if err != nil || !made.Active || made.SecretSet == nil || !*made.SecretSet {
			t.Fatalf("got %+v, %v", made, err)
		}
		settings.Secret, settings.URL = "", "https://example.com/other"
		changed, err := Update(t.Context(), client, scope, made.UUID, settings)
		if err != nil || changed.URL != settings.URL || !*changed.SecretSet {
			t.Errorf("got %+v, %v", changed, err)
		}
		if hooks, err := List(t.Context(), client, scope); err != nil || len(hooks) != 1 || hooks[0].URL != settings.URL {
			t.Errorf("got %+v, %v", hooks, err)
		}
		for range 2 { // the second time it does not exist
			if err := Delete(t.Context(), client, scope, made.UUID); err != nil {
				t.Error(err)
			}
		}
		for _, wrong := range []string{"", "..", "x"} { // it must not address the list
			if err := Delete(t.Context(), client, scope, wrong); err == nil {
				t.Errorf("%q: got no error", wrong)
			}
		}
	}
	if _, err := Create(t.Context(), newClient(t, url, emulator.ReadOnlyToken), acme, Settings{}); !errors.Is(err, bitbucket.ErrMissingScope) {
		t.Errorf("got %v, want a missing scope", err)
	}
}

func TestAListIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"with links": `,"next":"https://example.com/"`, "with a size": `,"size":3`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				page := r.URL.Query().Get("page")
				if page == "3" && strings.Contains(more, "next") {
					more = ""
				}
				_, _ = fmt.Fprintf(w, `{"values":[{"uuid":"{%s}"}]%s}`, page, more)
			}))
			t.Cleanup(server.Close)
			hooks, err := List(context.Background(), newClient(t, server.URL, "t"), acme)
			if err != nil || len(hooks) != 3 || hooks[2].UUID != "{3}" {
				t.Errorf("got %+v, %v, want three", hooks, err)
			}
		})
	}
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"values":[{}],"next":"x"}`)
	}))
	t.Cleanup(endless.Close)
	if _, err := List(context.Background(), newClient(t, endless.URL, "t"), acme); err == nil {
		t.Error("an endless list: got no error")
	}
}
