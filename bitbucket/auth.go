package bitbucket

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"
)

// authorizer provides the Authorization header of requests to the API.
type authorizer interface {
	// authorize returns the value of the Authorization header.
	authorize(ctx context.Context) (header string, err error)
	// drop discards a refused header and reports whether a new one can be
	// requested.
	drop(header string) bool
}

// staticAuth is a constant header: basic authentication or an access
// token.
type staticAuth string

func (a staticAuth) authorize(context.Context) (string, error) { return string(a), nil }
func (a staticAuth) drop(string) bool                          { return false }

func basicHeader(user string, password Secret) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password.Reveal()))
}

func newAuthorizer(cfg Config, base http.RoundTripper) authorizer {
	c := cfg.Credentials
	switch c.Kind() {
	case KindOAuthConsumer:
		return newOAuth(cfg, base)
	case KindAPIToken:
		return staticAuth(basicHeader(c.AccountEmail, c.APIToken))
	case KindAppPassword:
		return staticAuth(basicHeader(c.Username, c.AppPassword))
	default:
		return staticAuth("Bearer " + c.AccessToken.Reveal())
	}
}

// tokenLeeway is how long before its expiry a token is replaced, so that it does not
// expire while a request is in progress.
const tokenLeeway = time.Minute

// oauthConsumer gets tokens with the client-credentials grant and keeps them until they
// expire or are refused.
type oauthConsumer struct {
	config clientcredentials.Config
	client *http.Client
	redact func(string) string
	clock  clock.PassiveClock
	flight singleflight.Group

	mu     sync.Mutex
	source oauth2.TokenSource
	// refused is the last refusal of a token, refusedAt its time.
	refused   error
	refusedAt time.Time
	// current is the last header returned. scopes are the scopes that the endpoint named
	// for its token.
	current string
	scopes  []string
}

func newOAuth(cfg Config, base http.RoundTripper) *oauthConsumer {
	o := &oauthConsumer{
		config: clientcredentials.Config{
			ClientID:     cfg.Credentials.OAuthClientID,
			ClientSecret: cfg.Credentials.OAuthClientSecret.Reveal(),
			TokenURL:     cfg.OAuthURL,
			AuthStyle:    oauth2.AuthStyleInHeader,
		},
		client: &http.Client{
			Transport: &tokenCalls{base: base, budget: cfg.Budget, pause: cfg.BackoffMin}, Timeout: cfg.Timeout,
			// The consumer's secret is sent only to the configured address.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		redact: newRedactor(cfg.Credentials), clock: cfg.Clock,
	}
	o.source = o.newSource()
	return o
}

// newSource uses no caller's context, because all callers share its token. The client's
// timeout bounds each request.
func (o *oauthConsumer) newSource() oauth2.TokenSource {
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, o.client)
	return oauth2.ReuseTokenSourceWithExpiry(nil, o.config.TokenSource(ctx), tokenLeeway)
}

func (o *oauthConsumer) authorize(ctx context.Context) (string, error) {
	// All waiting callers share one request. It continues if one of them gives up.
	result := o.flight.DoChan("token", func() (any, error) {
		source, err := o.usable()
		if err != nil {
			return "", err
		}
		token, err := source.Token()
		if err != nil {
			return "", o.failed(err)
		}
		header := "Bearer " + token.AccessToken
		o.mu.Lock()
		if o.source == source {
			o.current, o.scopes = header, tokenScopes(token)
		}
		o.mu.Unlock()
		return header, nil
	})
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("get an OAuth token: %w", ctx.Err())
	case r := <-result:
		if r.Err != nil {
			return "", r.Err
		}
		header, ok := r.Val.(string)
		if !ok {
			return "", errors.New("get an OAuth token: no token")
		}
		return header, nil
	}
}

// refusedFor is how long a refusal of the consumer stands. Without it, each scope of
// the credentials set would ask again.
const refusedFor = time.Minute

// usable returns the source of tokens, or the refusal that still stands.
func (o *oauthConsumer) usable() (oauth2.TokenSource, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused != nil && o.clock.Since(o.refusedAt) < refusedFor {
		return nil, o.refused
	}
	return o.source, nil
}

// failed returns the error of a token request, and remembers a refusal.
func (o *oauthConsumer) failed(err error) error {
	err = o.tokenError(err)
	if errors.Is(err, ErrUnauthorized) {
		o.mu.Lock()
		o.refused, o.refusedAt = err, o.clock.Now()
		o.mu.Unlock()
	}
	return err
}

// tokenScopes reads Bitbucket's field "scopes" and the field "scope" of RFC 6749.
func tokenScopes(token *oauth2.Token) []string {
	for _, key := range []string{"scopes", "scope"} {
		if text, ok := token.Extra(key).(string); ok && text != "" {
			return splitScopes(text)
		}
	}
	return nil
}

// drop keeps a token that another caller has fetched in the meantime.
func (o *oauthConsumer) drop(header string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if header == o.current {
		o.source, o.current = o.newSource(), ""
	}
	return true
}

// tokenError distinguishes a refusal, for which a retry is useless, from a failure. It
// omits the answer's body, because only its named fields are known to contain no secret.
func (o *oauthConsumer) tokenError(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return fmt.Errorf("get an OAuth token: %w", err)
	}
	status := 0
	var header http.Header
	if refused.Response != nil {
		status, header = refused.Response.StatusCode, refused.Response.Header
	}
	answer := &APIError{
		Method: http.MethodPost, Route: "OAuth token endpoint", Status: status,
		Message: shorten(o.redact(refused.ErrorCode)), Detail: shorten(o.redact(refused.ErrorDescription)),
	}
	switch {
	case status == http.StatusTooManyRequests:
		return &RateLimitedError{RetryAfter: retryAfter(header, time.Now()), Err: answer}
	case status >= http.StatusInternalServerError:
		return fmt.Errorf("get an OAuth token: %w", answer)
	default:
		return fmt.Errorf("get an OAuth token: %w: %w; the OAuth consumer must be private "+
			"(\"This is a private consumer\"), have a callback URL, and the key and the secret must belong to it", ErrUnauthorized, answer)
	}
}

// newRedactor returns a function that removes the credentials, and values derived from
// them, from a server's text.
func newRedactor(c Credentials) func(string) string {
	var pairs []string
	add := func(s string) {
		// A value this short cannot be distinguished from ordinary text.
		if len(s) >= 4 {
			pairs = append(pairs, s, redacted)
		}
	}
	for _, basic := range []struct {
		user     string
		password Secret
	}{
		{c.OAuthClientID, c.OAuthClientSecret}, {c.AccountEmail, c.APIToken}, {c.Username, c.AppPassword},
	} {
		if basic.password != "" {
			add(strings.TrimPrefix(basicHeader(basic.user, basic.password), "Basic "))
		}
	}
	for _, s := range c.secrets() {
		add(s)
	}
	return strings.NewReplacer(pairs...).Replace
}
