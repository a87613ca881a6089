package bitbucket

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Request is one call of the API as Exchange sends it.
type Request struct {
	// Method is GET, POST, PUT or DELETE.
	Method string
	// Route is the path's template, for errors and metrics; Path is what is sent,
	// escaped by the caller, below /2.0/ or /internal/.
	Route, Path string
	Query       url.Values
	// Body is marshalled to JSON; nil sends none.
	Body any
}

// Answer is what Bitbucket said to a Request, whatever the status.
type Answer struct {
	// Status is the HTTP status code.
	Status int
	Header http.Header
	// Body may hold a runner's secret: only parts of it should be shown.
	Body []byte
	// Message is the error's text, with its detail, shortened to one line and
	// without the credentials; empty for a 2xx.
	Message string
	// Required and Granted are the scopes that a 403 lists; nil where it does not.
	Required, Granted []string
	// Date is the answer's Date header; zero when missing.
	Date time.Time
}

// OK reports a 2xx.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status <= 299 }

// Exchange makes a call and returns the answer whatever its status is: it is for
// those who look at Bitbucket itself rather than at its runners. What the other
// calls have it has too: authentication, the budget (ClassRegistration), retries
// of what may be repeated, a fresh token for one that was refused. The error is
// that of a call without an answer; for a POST that was sent it matches
// ErrOutcomeUnknown.
func (c *Client) Exchange(ctx context.Context, r Request) (Answer, error) {
	if !strings.HasPrefix(r.Path, publicRoot+"/") && !strings.HasPrefix(r.Path, internalRoot+"/") {
		return Answer{}, fmt.Errorf("%s %s: path %q is not below %s/ or %s/", r.Method, r.Route, r.Path, publicRoot, internalRoot)
	}
	cl := call{method: r.Method, route: r.Route, path: r.Path, query: r.Query, body: r.Body, class: ClassRegistration}
	got, authorization, err := c.retried(ctx, cl)
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Status: got.status, Header: got.header, Body: got.body, Date: serverDate(got.header)}
	if answer.OK() {
		return answer, nil
	}
	var parsed wireError
	if json.Unmarshal(got.body, &parsed) == nil {
		answer.Message = parsed.Error.Message
		if detail := parsed.detailText(); detail != "" {
			answer.Message = strings.TrimSpace(answer.Message + " (" + detail + ")")
		}
		answer.Required, answer.Granted, _ = parsed.scopes()
	} else {
		answer.Message = pageText(got.body)
	}
	answer.Message = shorten(c.redact(answer.Message, authorization))
	return answer, nil
}

// RunnersRequest is a call of the scope's list of runners, under /internal with
// internal and under /2.0 else.
func RunnersRequest(method string, scope Scope, internal bool) Request {
	r := Request{Method: method}
	r.Route, r.Path = scope.runnersRoute(rootOf(internal))
	return r
}

// RunnerRequest is a call of one runner. The error is that of an identifier that
// would address anything else.
func RunnerRequest(method string, scope Scope, uuid string, internal bool) (Request, error) {
	if err := checkRunner(scope, uuid); err != nil {
		return Request{}, err
	}
	r := Request{Method: method}
	r.Route, r.Path = scope.runnerRoute(rootOf(internal), uuid)
	return r, nil
}

func rootOf(internal bool) string {
	if internal {
		return internalRoot
	}
	return publicRoot
}

// GrantedScopes are the scopes that the token endpoint named with the OAuth
// consumer's token, sorted. They are nil for the other kinds, which have no such
// endpoint, and where it named none. It may ask for a token, which is no call of
// the hourly budget.
func (c *Client) GrantedScopes(ctx context.Context) ([]string, error) {
	consumer, ok := c.auth.(*oauthConsumer)
	if !ok {
		return nil, nil
	}
	if _, err := consumer.authorize(ctx); err != nil {
		return nil, err
	}
	consumer.mu.Lock()
	defer consumer.mu.Unlock()
	return slices.Clone(consumer.scopes), nil
}

// splitScopes reads a list of scopes, parted by spaces or commas, and sorts it.
func splitScopes(text string) []string {
	scopes := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// NamedScopes are the scopes that an answer's X-OAuth-Scopes header names,
// sorted; nil without it. Bitbucket was seen to send it with every kind of
// credentials, also with a 403.
func (a Answer) NamedScopes() []string {
	if named := splitScopes(a.Header.Get("X-OAuth-Scopes")); len(named) > 0 {
		return named
	}
	return nil
}
