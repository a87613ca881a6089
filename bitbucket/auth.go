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
)

// authorizer puts credentials on a request to the API.
type authorizer interface {
	// authorize returns the value of the Authorization header.
	authorize(ctx context.Context) (header string, err error)
	// drop forgets a header that was refused, and reports whether a fresh one
	// can be had.
	drop(header string) bool
}

// staticAuth is a header that never changes: basic authentication or an access
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

// tokenLeeway is how long before its expiry a token is no longer used, so that
// it does not expire on its way.
const tokenLeeway = time.Minute

// oauthConsumer gets tokens by the client-credentials grant and keeps them
// until they expire or are refused.
type oauthConsumer struct {
	config clientcredentials.Config
	client *http.Client
	redact func(string) string
	flight singleflight.Group

	mu     sync.Mutex
	source oauth2.TokenSource
	// current is the last header handed out, scopes what its token may do as far
	// as the endpoint said.
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
			Transport: base, Timeout: cfg.Timeout,
			// The consumer's secret goes to the configured address and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		redact: newRedactor(cfg.Credentials),
	}
	o.source = o.newSource()
	return o
}

// newSource is bound to no caller's context, since its token serves all of
// them; the client's timeout bounds each request.
func (o *oauthConsumer) newSource() oauth2.TokenSource {
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, o.client)
	return oauth2.ReuseTokenSourceWithExpiry(nil, o.config.TokenSource(ctx), tokenLeeway)
}

func (o *oauthConsumer) authorize(ctx context.Context) (string, error) {
	// One request serves all who wait; who gives up leaves it to the others.
	result := o.flight.DoChan("token", func() (any, error) {
		o.mu.Lock()
		source := o.source
		o.mu.Unlock()
		token, err := source.Token()
		if err != nil {
			return "", err
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
			return "", o.tokenError(r.Err)
		}
		header, ok := r.Val.(string)
		if !ok {
			return "", errors.New("get an OAuth token: no token")
		}
		return header, nil
	}
}

// tokenScopes reads Bitbucket's "scopes", and "scope" as RFC 6749 has it.
func tokenScopes(token *oauth2.Token) []string {
	for _, key := range []string{"scopes", "scope"} {
		if text, ok := token.Extra(key).(string); ok && text != "" {
			return splitScopes(text)
		}
	}
	return nil
}

// drop leaves a token alone that another caller has fetched meanwhile.
func (o *oauthConsumer) drop(header string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if header == o.current {
		o.source, o.current = o.newSource(), ""
	}
	return true
}

// tokenError tells a refusal, which no retry can mend, from a failure. The
// answer's body is left out: only its named fields are known to be harmless.
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
			"(\"This is a private consumer\"), have a callback URL, and key and secret must be its own", ErrUnauthorized, answer)
	}
}

// newRedactor returns a function that takes the credentials, and what is made
// of them, out of a text that came from a server.
func newRedactor(c Credentials) func(string) string {
	var pairs []string
	add := func(s string) {
		// What is this short cannot be told from ordinary text.
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
