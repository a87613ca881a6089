package bitbucket

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	publicRoot   = "/2.0"
	internalRoot = "/internal"
)

// Client talks to Bitbucket Cloud with one set of credentials. It is safe for
// concurrent use.
type Client struct {
	cfg       Config
	api       *url.URL
	auth      authorizer
	http      *retryablehttp.Client
	redactSet func(string) string
	base      http.RoundTripper

	mu sync.Mutex
	// refusedAt is when disabling was last found unsupported, by kind of scope.
	refusedAt [scopeKinds]time.Time
}

// NewClient returns a client, or every fault of the configuration. It calls
// nobody yet.
func NewClient(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("bitbucket client: %w", err)
	}
	cfg = cfg.withDefaults()
	api, err := url.Parse(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("bitbucket client: BaseURL: %w", err)
	}
	base, err := cfg.transport()
	if err != nil {
		return nil, fmt.Errorf("bitbucket client: %w", err)
	}
	c := &Client{cfg: cfg, api: api, auth: newAuthorizer(cfg, base), redactSet: newRedactor(cfg.Credentials), base: base}
	c.http = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     &tries{base: base, api: api, auth: c.auth, budget: cfg.Budget, observe: cfg.Observe},
			Timeout:       cfg.Timeout,
			CheckRedirect: checkRedirect,
		},
		RetryWaitMin: cfg.BackoffMin,
		RetryWaitMax: cfg.BackoffMax,
		RetryMax:     cfg.Retries,
		CheckRetry:   checkRetry,
		Backoff:      c.backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	if cfg.Credentials.Deprecated() {
		cfg.Logger.Warn("app passwords are being retired by Atlassian: use an API token or an OAuth consumer")
	}
	return c, nil
}

// String names the client by where it goes, and nothing that it holds.
func (c *Client) String() string { return "bitbucket client of " + c.cfg.BaseURL }

// GoString is String: the fields hold credentials.
func (c *Client) GoString() string { return c.String() }

// Budget is the budget that the client's calls count in.
func (c *Client) Budget() *Budget { return c.cfg.Budget }

// Close drops idle connections. Calls in progress are not touched.
func (c *Client) Close() {
	if t, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// redact takes the credentials and the given authorization out of a text.
func (c *Client) redact(text, authorization string) string {
	text = c.redactSet(text)
	if _, token, ok := strings.Cut(authorization, " "); ok && token != "" {
		text = strings.ReplaceAll(text, token, redacted)
	}
	return text
}

// GetRunner reads one runner, and the Date header of the answer for ages (zero
// when missing). ErrNotFound when there is none.
func (c *Client) GetRunner(ctx context.Context, scope Scope, uuid string) (Runner, time.Time, error) {
	if err := checkRunner(scope, uuid); err != nil {
		return Runner{}, time.Time{}, fmt.Errorf("get runner: %w", err)
	}
	cl := call{method: http.MethodGet, class: ClassRegistration}
	cl.route, cl.path = scope.runnerRoute(publicRoot, uuid)
	r, err := c.do(ctx, cl)
	if err != nil {
		return Runner{}, time.Time{}, fmt.Errorf("get runner %s of %s: %w", uuid, scope, err)
	}
	runner, err := decodeRunner(r.body)
	if err != nil {
		return Runner{}, time.Time{}, fmt.Errorf("get runner %s of %s: %w: %w", uuid, scope, ErrUnavailable, err)
	}
	return runner, serverDate(r.header), nil
}

// CreateRunner registers a runner. The answer is the only one that carries
// OAuthClient.Secret. A registration whose outcome is not known is not
// repeated: the error matches ErrOutcomeUnknown (and nothing that a caller might
// retry on). ErrRunnerLimit when the scope is full.
func (c *Client) CreateRunner(ctx context.Context, scope Scope, n NewRunner) (Runner, error) {
	if err := scope.Validate(); err != nil {
		return Runner{}, fmt.Errorf("create runner: %w", err)
	}
	cl := call{method: http.MethodPost, class: ClassRegistration, body: struct {
		Name   string   `json:"name"`
		Labels []string `json:"labels"`
	}{n.Name, n.Labels}}
	cl.route, cl.path = scope.runnersRoute(publicRoot)
	r, err := c.do(ctx, cl)
	if err != nil {
		return Runner{}, fmt.Errorf("create runner %q in %s: %w", n.Name, scope, err)
	}
	runner, err := decodeRunner(r.body)
	if err == nil && (runner.OAuthClient == nil || runner.OAuthClient.ID == "" || runner.OAuthClient.Secret == "") {
		err = fmt.Errorf("decode runner: %s was registered without the oauth_client's id and secret in the answer", runner.UUID)
	}
	if err != nil {
		return Runner{}, fmt.Errorf("create runner %q in %s: %w: %w", n.Name, scope, ErrOutcomeUnknown, err)
	}
	return runner, nil
}

// DeleteRunner deletes a runner; one that is not there is a success. Bitbucket
// does not refuse to delete a busy runner: its step is stranded, so callers
// must know that it is idle.
func (c *Client) DeleteRunner(ctx context.Context, scope Scope, uuid string) error {
	if err := checkRunner(scope, uuid); err != nil {
		return fmt.Errorf("delete runner: %w", err)
	}
	cl := call{method: http.MethodDelete, class: ClassRegistration}
	cl.route, cl.path = scope.runnerRoute(publicRoot, uuid)
	if _, err := c.do(ctx, cl); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete runner %s of %s: %w", uuid, scope, err)
	}
	return nil
}

// Get reads any resource of the API below its root, such as "/2.0/…", and
// returns the body (at most 10 MiB). The path is escaped by the caller; route is
// its template, for errors and metrics.
func (c *Client) Get(ctx context.Context, class Class, route, path string, query url.Values) ([]byte, error) {
	if !strings.HasPrefix(path, publicRoot+"/") && !strings.HasPrefix(path, internalRoot+"/") {
		return nil, fmt.Errorf("get %s: path %q is not below %s/ or %s/", route, path, publicRoot, internalRoot)
	}
	r, err := c.do(ctx, call{method: http.MethodGet, route: route, path: path, query: query, class: class})
	if err != nil {
		return nil, err
	}
	return r.body, nil
}
