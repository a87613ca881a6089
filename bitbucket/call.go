package bitbucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/hashicorp/go-retryablehttp"
)

// call is one logical request, which can take several tries.
type call struct {
	method string
	// route is the template for errors and metrics. path is the escaped path that is
	// sent.
	route, path string
	query       url.Values
	// body is marshalled to JSON. nil sends no body.
	body  any
	class Class
}

// repeatable reports whether the call has the same effect if it arrives several times.
func (c call) repeatable() bool { return c.method != http.MethodPost }

func (c call) String() string { return c.method + " " + c.route }

// reply is a complete answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call and returns an error for any answer that is not a 2xx.
func (c *Client) do(ctx context.Context, cl call) (reply, error) {
	r, header, err := c.retried(ctx, cl)
	if err != nil {
		return reply{}, err
	}
	if r.status < 200 || r.status > 299 {
		return reply{}, c.statusError(cl, r, header)
	}
	return r, nil
}

// retried makes a call. If the token is refused, which can have been revoked before it
// expired, retried makes the call again with a new token. It returns the authorization
// of the last try.
func (c *Client) retried(ctx context.Context, cl call) (reply, string, error) {
	r, header, err := c.attempt(ctx, cl)
	if err == nil && r.status == http.StatusUnauthorized && c.auth.drop(header) {
		c.cfg.Logger.Info("a cached OAuth token was refused: getting a new one")
		r, header, err = c.attempt(ctx, cl)
	}
	return r, header, err
}

// attempt makes a call with its retries. It returns the authorization of the last try.
func (c *Client) attempt(ctx context.Context, cl call) (reply, string, error) {
	var body []byte
	if cl.body != nil {
		var err error
		if body, err = json.Marshal(cl.body); err != nil {
			return reply{}, "", fmt.Errorf("%s: encode the body: %w", cl, err)
		}
	}
	target := c.cfg.BaseURL + cl.path
	if len(cl.query) > 0 {
		target += "?" + cl.query.Encode()
	}
	if ctx.Value(forRegistrationKey{}) != nil {
		cl.class = ClassRegistration
	}
	ex := &exchange{class: cl.class, method: cl.method, route: cl.route, repeatable: cl.repeatable()}
	req, err := retryablehttp.NewRequestWithContext(withExchange(ctx, ex), cl.method, target, body)
	if err != nil {
		return reply{}, "", fmt.Errorf("%s: %w", cl, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if cl.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if resp != nil {
			_ = resp.Body.Close()
		}
		return reply{}, "", callError(ctx, cl, ex, err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, "", callError(ctx, cl, ex, err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: content}, ex.header(), nil
}

// callError returns the error for a call without an answer.
func callError(ctx context.Context, cl call, ex *exchange, err error) error {
	// The URL would add only UUIDs to the call's name.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	switch {
	case !cl.repeatable() && ex.sent.Load():
		return fmt.Errorf("%s: %w: %w", cl, ErrOutcomeUnknown, err)
	case final(err), errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", cl, err)
	default:
		return fmt.Errorf("%s: %w: %w", cl, ErrUnavailable, err)
	}
}

// statusError returns the error for an answer that is not a 2xx.
func (c *Client) statusError(cl call, r reply, authorization string) error {
	answer := &APIError{Method: cl.method, Route: cl.route, Status: r.status}
	var parsed wireError
	if json.Unmarshal(r.body, &parsed) == nil {
		answer.Message, answer.Detail = parsed.Error.Message, parsed.detailText()
	} else {
		answer.Message = pageText(r.body)
	}
	// Redact before shortening, because shortening could leave part of a secret.
	answer.Message = shorten(c.redact(answer.Message, authorization))
	answer.Detail = shorten(c.redact(answer.Detail, authorization))

	switch {
	case r.status == http.StatusTooManyRequests:
		return &RateLimitedError{RetryAfter: retryAfter(r.header, c.cfg.Clock.Now()), Err: answer}
	case r.status >= http.StatusInternalServerError && !cl.repeatable():
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, answer)
	case r.status >= http.StatusInternalServerError:
		return fmt.Errorf("%w: %w", ErrUnavailable, answer)
	}
	if required, granted, ok := parsed.scopes(); ok && r.status == http.StatusForbidden {
		return &MissingScopeError{Required: required, Granted: granted, Err: answer}
	}
	return answer
}
