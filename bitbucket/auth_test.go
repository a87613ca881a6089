package bitbucket

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

var everyKind = map[Kind]Credentials{
	KindOAuthConsumer: {OAuthClientID: "consumer-key", OAuthClientSecret: "consumer-secret-value"},
	KindAPIToken:      {AccountEmail: "dev@example.com", APIToken: "api-token-value"},
	KindAppPassword:   {Username: "dev", AppPassword: "app-password-value"},
	KindAccessToken:   {AccessToken: "access-token-value"},
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// issue answers the token endpoint with tokens numbered by request.
func issue(w http.ResponseWriter, number int, seconds int) {
	answer(w, http.StatusOK, fmt.Sprintf(
		`{"access_token":"oauth-token-%d","scopes":"runner:write","expires_in":%d,"token_type":"bearer"}`, number, seconds))
}

func TestEveryKindOfCredentialsAuthenticates(t *testing.T) {
	want := map[Kind]string{
		KindOAuthConsumer: "Bearer oauth-token-1",
		KindAPIToken:      basic("dev@example.com", "api-token-value"),
		KindAppPassword:   basic("dev", "app-password-value"),
		KindAccessToken:   "Bearer access-token-value",
	}
	for kind, credentials := range everyKind {
		t.Run(string(kind), func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, r *http.Request, number int) {
				if r.URL.Path == "/token" {
					issue(w, number, 7200)
					return
				}
				answer(w, http.StatusOK, page("", 0))
			})
			c := rec.client(t, func(cfg *Config) { cfg.Credentials = credentials })
			for range 3 {
				if _, err := c.ListRunners(t.Context(), acme); err != nil {
					t.Fatal(err)
				}
			}
			calls := rec.seen()
			if kind == KindOAuthConsumer {
				token := calls[0]
				if token.Authorization != basic("consumer-key", "consumer-secret-value") || token.Body != "grant_type=client_credentials" {
					t.Errorf("token request %+v", token)
				}
				calls = calls[1:]
			}
			if len(calls) != 3 {
				t.Fatalf("%d calls, want 3", len(calls))
			}
			for _, call := range calls {
				if call.Path != listPath || call.Authorization != want[kind] {
					t.Errorf("call %+v, want authorization %s", call, want[kind])
				}
			}
			if used := c.Budget().Used(); used != len(rec.seen()) {
				t.Errorf("budget counted %d, want %d, the token request included", used, len(rec.seen()))
			}
		})
	}
}

func TestTokenThatIsAboutToExpireIsReplaced(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, r *http.Request, number int) {
		if r.URL.Path == "/token" {
			issue(w, number, 30)
			return
		}
		answer(w, http.StatusOK, page("", 0))
	})
	c := rec.client(t, func(cfg *Config) { cfg.Credentials = everyKind[KindOAuthConsumer] })
	for range 2 {
		if _, err := c.ListRunners(t.Context(), acme); err != nil {
			t.Fatal(err)
		}
	}
	if seen := rec.seen(); len(seen) != 4 || seen[3].Authorization != "Bearer oauth-token-3" {
		t.Errorf("requests %+v", seen)
	}
}

func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		accepted string
		want     error
		requests int
	}{
		"revoked token":       {"Bearer oauth-token-3", nil, 4},
		"every token refused": {"none", ErrUnauthorized, 4},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, r *http.Request, number int) {
				switch {
				case r.URL.Path == "/token":
					issue(w, number, 7200)
				case r.Header.Get("Authorization") != tc.accepted:
					answer(w, http.StatusUnauthorized, apiError("Token is invalid", ""))
				default:
					answer(w, http.StatusOK, runnerJSON(runnerUUID))
				}
			})
			c := rec.client(t, func(cfg *Config) { cfg.Credentials = everyKind[KindOAuthConsumer] })
			// A 401 is a definite answer, so a registration may be sent again.
			if _, err := c.CreateRunner(t.Context(), acme, NewRunner{Name: "r"}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if got := len(rec.seen()); got != tc.requests {
				t.Errorf("%d requests, want %d", got, tc.requests)
			}
		})
	}
}

func TestConcurrentCallsShareOneTokenRequest(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, r *http.Request, number int) {
		if r.URL.Path == "/token" {
			issue(w, number, 7200)
			return
		}
		answer(w, http.StatusOK, page("", 0))
	})
	c := rec.client(t, func(cfg *Config) { cfg.Credentials = everyKind[KindOAuthConsumer] })
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := c.ListRunners(context.Background(), acme); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	tokens := 0
	for _, r := range rec.seen() {
		if r.Path == "/token" {
			tokens++
		}
	}
	if tokens != 1 {
		t.Errorf("%d token requests, want 1", tokens)
	}
}

func TestTokenRefusalsAndFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		status   int
		body     string
		want     error
		requests int
		text     string
	}{
		"not private":   {400, `{"error":"invalid_grant","error_description":"consumer-secret-value: bad"}`, ErrUnauthorized, 1, "must be private"},
		"wrong secret":  {401, `{"error":"invalid_client"}`, ErrUnauthorized, 1, "invalid_client"},
		"unavailable":   {503, `<html>sorry</html>`, ErrUnavailable, 3, "503"},
		"throttled":     {429, `slow down`, ErrRateLimited, 1, "429"},
		"redirected":    {302, ``, ErrUnauthorized, 1, "302"},
		"without token": {200, `{}`, ErrUnavailable, 3, "access_token"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.Header().Set("Location", "/elsewhere")
				answer(w, tc.status, tc.body)
			})
			c := rec.client(t, func(cfg *Config) { cfg.Credentials = everyKind[KindOAuthConsumer] })
			_, err := c.CreateRunner(t.Context(), acme, NewRunner{Name: "r"})
			if !errors.Is(err, tc.want) || errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if err != nil && (!strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "secret-value")) {
				t.Errorf("got %v, want it to contain %q and no secret", err, tc.text)
			}
			if got := len(rec.seen()); got != tc.requests {
				t.Errorf("%d requests, want %d", got, tc.requests)
			}
			if used := c.Budget().hour(c.Budget().minute())[classToken]; used != tc.requests {
				t.Errorf("budget counted %d token requests, want %d", used, tc.requests)
			}
			_, err = c.ListRunners(t.Context(), acme)
			refused := errors.Is(tc.want, ErrUnauthorized)
			if asked := len(rec.seen()) > tc.requests; refused && (asked || !errors.Is(err, ErrUnauthorized)) {
				t.Errorf("got %v, and asked again: %v; want the refusal to stand for a while", err, asked)
			}
		})
	}
}

// A server that repeats the caller's credentials in every form it can must not
// bring them into an error or a log.
func TestNoErrorOrLogContainsASecret(t *testing.T) {
	for kind, credentials := range everyKind {
		for _, status := range []int{200, 400, 401, 403, 404, 405, 409, 429, 500, 503} {
			t.Run(fmt.Sprint(kind, status), func(t *testing.T) {
				rec := serve(t, func(w http.ResponseWriter, r *http.Request, number int) {
					if r.URL.Path == "/token" {
						issue(w, number, 7200)
						return
					}
					answer(w, status, apiError("refused: "+r.Header.Get("Authorization"), strings.Join(credentials.secrets(), " ")))
				})
				var logged bytes.Buffer
				core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&logged), zap.DebugLevel)
				client := rec.client(t, func(cfg *Config) {
					cfg.Credentials, cfg.Logger = credentials, zap.New(core)
					cfg.Logger.Info("configuration", zap.Any("any", *cfg), zap.Reflect("credentials", cfg.Credentials))
				})
				text := fmt.Sprintf("%v %+v %#v %v %+v %#v", credentials, credentials, credentials, client, client, client)
				for name, call := range everyCall(client) {
					if err := call(t.Context()); err != nil {
						text += fmt.Sprintf("\n%s: %v %+v %#v", name, err, err, err)
					}
				}
				text += logged.String()
				for _, secret := range append(credentials.secrets(), "oauth-token-", "ZGV2", "Y29uc3VtZXI") {
					if strings.Contains(text, secret) {
						t.Errorf("%q is in the output:\n%s", secret, text)
					}
				}
			})
		}
	}
}

func TestSecretPrintsAsRedactedWithEveryVerb(t *testing.T) {
	value := struct{ S Secret }{"hunter2hunter2"}
	marshalled, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(marshalled), value.S.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, value), fmt.Sprintf(verb, value.S), fmt.Sprintf(verb, &value))
	}
	for _, text := range texts {
		if strings.Contains(text, "hunter2") || strings.Contains(strings.ToLower(text), "68756e74") || !strings.Contains(text, redacted) {
			t.Errorf("printed as %s", text)
		}
	}
	if value.S.Reveal() != "hunter2hunter2" {
		t.Error("Reveal lost the value")
	}
}

func TestCABundleIsTrusted(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, page("", 0)) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, tc := range map[string]struct {
		bundle []byte
		want   error
	}{
		"with the bundle": {bundle, nil},
		"without it":      {nil, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := NewClient(Config{BaseURL: server.URL, Credentials: tokenOnly, CABundle: tc.bundle, Retries: -1, Timeout: 20 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.ListRunners(t.Context(), acme); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
