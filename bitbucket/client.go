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

// Client calls Bitbucket Cloud with one set of credentials. It is safe for concurrent
// use.
type Client struct {
	cfg       Config
	api       *url.URL
	auth      authorizer
	http      *retryablehttp.Client
	redactSet func(string) string
	base      http.RoundTripper

	mu sync.Mutex
	// refusedAt is when Bitbucket last refused to disable a runner in a scope.
	refusedAt map[Scope]time.Time
}

// NewClient returns a client, or an error with every fault of the configuration. It makes
// no call.
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
	c := &Client{cfg: cfg, api: api, auth: newAuthorizer(cfg, base), redactSet: newRedactor(cfg.Credentials), base: base, refusedAt: map[Scope]time.Time{}}
	c.http = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     &tries{base: base, api: api, auth: c.auth, budget: cfg.Budget, pause: cfg.BackoffMin, observe: cfg.Observe},
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
		cfg.Logger.Warn("Atlassian is retiring app passwords: use an API token or an OAuth consumer")
	}
	return c, nil
}

// String returns the address that the client calls, without any credentials.
func (c *Client) String() string { return "bitbucket client of " + c.cfg.BaseURL }

// GoString is String, because the fields contain credentials.
func (c *Client) GoString() string { return c.String() }

// Budget returns the budget in which the client's calls count.
func (c *Client) Budget() *Budget { return c.cfg.Budget }

// Close closes idle connections. Calls in progress continue.
func (c *Client) Close() {
	if t, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// redact removes the credentials and the given authorization from a text.
func (c *Client) redact(text, authorization string) string {
	text = c.redactSet(text)
	if _, token, ok := strings.Cut(authorization, " "); ok && token != "" {
		text = strings.ReplaceAll(text, token, redacted)
	}
	return text
}

// GetRunner returns one runner and the answer's Date header, from which ages are computed.
// The date is zero if the header is missing. GetRunner returns ErrNotFound if the runner
// does not exist.
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

// CreateRunner registers a runner. Its answer is the only one that contains
// OAuthClient.Secret. CreateRunner does not repeat a registration whose outcome is
// unknown. In that case the error matches ErrOutcomeUnknown, and no error for which a
// caller might retry. It returns ErrRunnerLimit if the scope is full.
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

// DeleteRunner deletes a runner. It returns nil if the runner does not exist. Bitbucket
// deletes busy runners too, and their step is lost, so callers must know that the runner
// is idle.
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

// Get reads a resource of the API and returns the body, which is at most 10 MiB. The path
// includes the root, such as "/2.0/…". The caller escapes it. route is the template of the
// path, for errors and metrics.
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

// Hooks calls the webhooks of a scope, or one of them if uuid is not empty, and returns the
// answer's body. Package webhooks knows what they contain.
func (c *Client) Hooks(ctx context.Context, method string, scope Scope, uuid string, query url.Values, body any) ([]byte, error) {
	if err := scope.Validate(); err != nil {
		return nil, err
	}
	template, path := scope.Route()
	cl := call{method: method, route: publicRoot + template + "/hooks", path: publicRoot + path + "/hooks", query: query, body: body, class: ClassRegistration}
	if uuid != "" {
		cl.route, cl.path = cl.route+"/{uid}", cl.path+"/"+url.PathEscape(uuid)
	}
	r, err := c.do(ctx, cl)
	return r.body, err
}
