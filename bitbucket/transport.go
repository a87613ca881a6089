package bitbucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	maxBody      = 10 << 20 // bytes of an answer, decompressed
	maxRedirects = 5
)

// The errors for which a retry is useless.
var (
	errForeignHost = errors.New("leads to another host")
	errTooLarge    = fmt.Errorf("answer of more than %d bytes", maxBody)
	errRedirects   = errors.New("too many redirects")
)

// exchange is the state of one call across its tries.
type exchange struct {
	class         Class
	method, route string
	repeatable    bool
	// sent is true if the current try may have reached Bitbucket and no complete answer
	// has been received.
	sent atomic.Bool
	// authorization is the header of the last try. It is dropped if it is refused.
	authorization atomic.Value
}

func (e *exchange) header() string {
	header, _ := e.authorization.Load().(string)
	return header
}

type exchangeKey struct{}

func withExchange(ctx context.Context, e *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, e)
}

func exchangeOf(ctx context.Context) *exchange {
	e, _ := ctx.Value(exchangeKey{}).(*exchange)
	return e
}

// tries is the transport of single tries, including redirects. It authorizes each try,
// counts it in the budget, reads the complete answer and reports the try to Observe. It
// reads the body, so that a connection lost within the body is a failed try like any
// other.
type tries struct {
	base    http.RoundTripper
	api     *url.URL
	auth    authorizer
	budget  *Budget
	pause   time.Duration // the first one after a 429
	observe func(method, routeTemplate string, status int, d time.Duration)
}

func (t *tries) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }()
	}
	ctx := req.Context()
	ex := exchangeOf(ctx)
	if ex == nil {
		return nil, errors.New("request without its call")
	}
	ex.sent.Store(false)
	if !sameHost(req.URL, t.api) {
		return nil, fmt.Errorf("%s %w", req.URL.Redacted(), errForeignHost)
	}
	if err := t.budget.check(ex.class); err != nil {
		return nil, err // without getting a token for it
	}
	header, err := t.auth.authorize(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.budget.take(ex.class); err != nil {
		return nil, err
	}
	ex.authorization.Store(header)
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { ex.sent.Store(true) }}
	req = req.Clone(httptrace.WithClientTrace(ctx, trace))
	req.Header.Set("Authorization", header)

	begun := time.Now()
	resp, err := t.exchange(req)
	status := 0
	if err == nil {
		status = resp.StatusCode
		ex.sent.Store(false)
		t.budget.learn(status, resp.Header, t.pause)
	}
	t.observe(ex.method, ex.route, status, time.Since(begun))
	return resp, err
}

// exchange sends the request and replaces the answer's body with its bytes.
func (t *tries) exchange(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxBody {
		return nil, errTooLarge
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// tokenCalls is the transport of token requests. It counts them in the budget.
type tokenCalls struct {
	base   http.RoundTripper
	budget *Budget
	pause  time.Duration // the first one after a 429
}

func (t *tokenCalls) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.budget.take(classToken); err != nil {
		return nil, err
	}
	resp, err := t.base.RoundTrip(req)
	if err == nil {
		// The limit that it may name is not that of the API.
		t.budget.learn(resp.StatusCode, http.Header{"Retry-After": resp.Header["Retry-After"], "Date": resp.Header["Date"]}, t.pause)
	}
	return resp, err
}

// checkRedirect allows redirects of reads on the same host. A write is never redirected,
// because that could turn it into a read or repeat it.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch first := via[0]; {
	case first.Method != http.MethodGet:
		return http.ErrUseLastResponse
	case !sameHost(req.URL, first.URL):
		return fmt.Errorf("redirect to %s %w", req.URL.Redacted(), errForeignHost)
	case len(via) > maxRedirects:
		return errRedirects
	}
	return nil
}

func sameHost(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }
