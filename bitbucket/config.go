package bitbucket

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"
)

// The defaults of Config.
const (
	DefaultBaseURL  = "https://api.bitbucket.org"
	DefaultOAuthURL = "https://bitbucket.org/site/oauth2/access_token"
	DefaultTimeout  = 10 * time.Second
	DefaultRetries  = 2

	defaultBackoffMin = 500 * time.Millisecond
	defaultBackoffMax = 10 * time.Second
	maxTimeout        = 5 * time.Minute
	maxRetries        = 10
)

// Config configures a Client. Only Credentials are required.
type Config struct {
	// BaseURL is the scheme and host of the API. Default DefaultBaseURL. The client
	// refuses pages of lists and redirects at other hosts.
	BaseURL string
	// OAuthURL is the token endpoint of OAuth consumers. Default DefaultOAuthURL.
	OAuthURL string
	// Credentials are required.
	Credentials Credentials
	// Transport sends the requests. nil means a transport with the environment's proxies
	// and, if given, CABundle.
	Transport http.RoundTripper
	// CABundle contains PEM certificates that are trusted in addition to the system's.
	// It cannot be combined with Transport.
	CABundle []byte
	// Timeout bounds each try of a call, including the answer's body, and each token
	// request. 0 means DefaultTimeout. The maximum is 5 minutes.
	Timeout time.Duration
	// Retries is how often a call is tried again. 0 means DefaultRetries, that is, 3
	// tries. A negative number means none. The maximum is 10.
	Retries int
	// BackoffMin and BackoffMax bound the jittered exponential wait between tries. 0
	// means 500 ms and 10 s. A Retry-After of up to 60 s takes precedence.
	BackoffMin, BackoffMax time.Duration
	// Logger receives retries and refused tokens, but never a secret. nil discards them.
	Logger *zap.Logger
	// Clock is used for the Begun of a list and for the time for which a refusal to
	// disable is remembered. nil means the real clock.
	Clock clock.PassiveClock
	// Budget is shared by all clients of one set of credentials. nil means a separate
	// budget with the defaults.
	Budget *Budget
	// Observe is called for every try that was sent, with the method, the route template,
	// the status (0 without an answer) and the duration. It may be nil.
	Observe func(method, routeTemplate string, status int, d time.Duration)
	// UserAgent is sent with every call. Default "bitbucket-runner-scaler".
	UserAgent string
}

// Validate reports all faults at once. Each names its field.
func (c Config) Validate() error {
	var faults []error
	if err := checkURL("BaseURL", c.BaseURL, false); err != nil {
		faults = append(faults, err)
	}
	if err := checkURL("OAuthURL", c.OAuthURL, true); err != nil {
		faults = append(faults, err)
	}
	if err := c.Credentials.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("Credentials: %w", err))
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		faults = append(faults, fmt.Errorf("Timeout %s: want 0 (%s) to %s", c.Timeout, DefaultTimeout, maxTimeout)) //nolint:staticcheck // a field's name
	}
	if c.Retries > maxRetries {
		faults = append(faults, fmt.Errorf("Retries %d: want at most %d", c.Retries, maxRetries)) //nolint:staticcheck // a field's name
	}
	d := c.withDefaults()
	if d.BackoffMin < 0 || d.BackoffMax < d.BackoffMin {
		faults = append(faults, fmt.Errorf("BackoffMin %s, BackoffMax %s: want 0 <= BackoffMin <= BackoffMax", c.BackoffMin, c.BackoffMax))
	}
	if len(c.CABundle) > 0 {
		if c.Transport != nil {
			faults = append(faults, errors.New("CABundle: cannot be combined with Transport"))
		}
		if !x509.NewCertPool().AppendCertsFromPEM(c.CABundle) {
			faults = append(faults, errors.New("CABundle: want at least one certificate in PEM form"))
		}
	}
	return errors.Join(faults...)
}

// checkURL accepts http and https URLs without user, query or fragment. The error does
// not repeat a password in the URL.
func checkURL(field, raw string, withPath bool) error {
	if raw == "" {
		return nil
	}
	want := "want http(s)://host[:port]"
	if withPath {
		want += "/path"
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: not a URL, %s", field, want)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		!withPath && strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%s %q: %s", field, u.Redacted(), want)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	if c.OAuthURL == "" {
		c.OAuthURL = DefaultOAuthURL
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	switch {
	case c.Retries == 0:
		c.Retries = DefaultRetries
	case c.Retries < 0:
		c.Retries = 0
	}
	if c.BackoffMin == 0 {
		c.BackoffMin = defaultBackoffMin
	}
	if c.BackoffMax == 0 {
		c.BackoffMax = max(defaultBackoffMax, c.BackoffMin)
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Budget == nil {
		c.Budget = NewBudget(DefaultBudget, DefaultReserve, c.Clock)
	}
	if c.Observe == nil {
		c.Observe = func(string, string, int, time.Duration) {}
	}
	if c.UserAgent == "" {
		c.UserAgent = "bitbucket-runner-scaler"
	}
	return c
}

// transport returns the configured transport, or one with the environment's proxies and
// the additional certificates.
func (c Config) transport() (http.RoundTripper, error) {
	if c.Transport != nil {
		return c.Transport, nil
	}
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("http.DefaultTransport was replaced: set Config.Transport")
	}
	t := base.Clone()
	t.Proxy = http.ProxyFromEnvironment
	if len(c.CABundle) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
		pool.AppendCertsFromPEM(c.CABundle)
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}
