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

// Request is one API call for Exchange.
type Request struct {
	// Method is GET, POST, PUT or DELETE.
	Method string
	// Route is the template of the path, for errors and metrics. Path is the path that
	// is sent. The caller escapes it. It must be below /2.0/ or /internal/.
	Route, Path string
	Query       url.Values
	// Body is marshalled to JSON. nil sends no body.
	Body any
}

// Answer is Bitbucket's response to a Request, with any status.
type Answer struct {
	// Status is the HTTP status code.
	Status int
	Header http.Header
	// Body can contain a runner's secret, so only parts of it may be shown.
	Body []byte
	// Message is the error's text and detail, shortened to one line and without the
	// credentials. It is empty for a 2xx.
	Message string
	// Required and Granted are the scopes that a 403 lists. They are nil if it lists
	// none.
	Required, Granted []string
	// Date is the answer's Date header. It is zero if the header is missing.
	Date time.Time
}

// OK reports whether the status is a 2xx.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status <= 299 }

// Exchange makes a call and returns the answer with any status. It is for callers that
// examine Bitbucket itself rather than runners. Like all calls, it authenticates, counts
// in the budget (as ClassRegistration), retries calls that may be repeated, and replaces
// a refused token. It returns an error only if there is no answer. For a POST that was
// sent, that error matches ErrOutcomeUnknown.
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

// RunnersRequest returns a request for the scope's list of runners, under /internal if
// internal is set, otherwise under /2.0.
func RunnersRequest(method string, scope Scope, internal bool) Request {
	r := Request{Method: method}
	r.Route, r.Path = scope.runnersRoute(rootOf(internal))
	return r
}

// RunnerRequest returns a request for one runner. It returns an error if the identifier
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

// GrantedScopes returns the scopes that the token endpoint named with the OAuth
// consumer's token, sorted. It returns nil if the endpoint named none, and for the other
// kinds of credentials, which have no token endpoint. It may request a token, which does
// not count in the hourly budget.
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

// splitScopes splits a list of scopes at spaces and commas, and sorts it.
func splitScopes(text string) []string {
	scopes := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// NamedScopes returns the scopes that the answer's X-OAuth-Scopes header names, sorted,
// or nil without the header. Bitbucket was observed to send the header for every kind of
// credentials, also with a 403.
func (a Answer) NamedScopes() []string {
	if named := splitScopes(a.Header.Get("X-OAuth-Scopes")); len(named) > 0 {
		return named
	}
	return nil
}
