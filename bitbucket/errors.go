package bitbucket

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// The errors that callers distinguish with errors.Is.
var (
	// ErrNotFound is a 404: the runner, workspace or repository does not exist,
	// or the credentials may not see it.
	ErrNotFound = errors.New("not found")
	// ErrConflict is a 409: a runner with that UUID exists.
	ErrConflict = errors.New("conflict")
	// ErrUnauthorized is a 401, or an OAuth consumer whose token request was
	// refused.
	ErrUnauthorized = errors.New("credentials were refused")
	// ErrForbidden is a 403. If the answer names scopes, the error is a
	// *MissingScopeError.
	ErrForbidden = errors.New("forbidden")
	// ErrMissingScope matches every *MissingScopeError.
	ErrMissingScope = errors.New("missing scope")
	// ErrRateLimited matches every *RateLimitedError.
	ErrRateLimited = errors.New("rate limited")
	// ErrRunnerLimit is a 400 because the scope is full (100 runners).
	ErrRunnerLimit = errors.New("runner limit of the scope reached")
	// ErrOutcomeUnknown means that a registration was sent and no definite answer was
	// received, so that the runner may exist. The registration must not be repeated
	// until a list that was begun later shows that the runner does not exist.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrDisableUnsupported means that Bitbucket has no route to disable or
	// enable runners of this kind of scope.
	ErrDisableUnsupported = errors.New("disabling runners is not supported")
	// ErrBudgetExhausted means that the call was not made, because the hourly budget has
	// no calls left for its class.
	ErrBudgetExhausted = errors.New("hourly budget of calls exhausted")
	// ErrUnavailable is a network error, a 5xx or an unreadable answer that
	// remained after all tries.
	ErrUnavailable = errors.New("bitbucket unavailable")
)

// APIError is an unexpected answer.
type APIError struct {
	Method string
	// Route is the route's template, without names or UUIDs.
	Route string
	// Status is the HTTP status code.
	Status int
	// Message and Detail are Bitbucket's, shortened. For an error page that is not JSON,
	// Message is the beginning of its text.
	Message, Detail string
}

// Error returns the call, the status and Bitbucket's message.
func (e *APIError) Error() string {
	text := fmt.Sprintf("%s %s: status %d", e.Method, e.Route, e.Status)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}

// limitWords and otherLimits distinguish a full scope from other limits, such as the
// length of a name or the number of labels. The wording of the message is not documented,
// so they match several forms.
var (
	limitWords  = regexp.MustCompile(`(?i)\b(limits?|maximum|max|too many|exceed(s|ed|ing)?)\b`)
	limitNoun   = regexp.MustCompile(`(?i)\brunners?\b`)
	otherLimits = regexp.MustCompile(`(?i)\b(names?|labels?|characters?|length)\b`)
)

// Is reports whether target is the sentinel of the status.
func (e *APIError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrConflict:
		return e.Status == http.StatusConflict
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized
	case ErrForbidden:
		return e.Status == http.StatusForbidden
	case ErrRunnerLimit:
		text := e.Message + " " + e.Detail
		return e.Status == http.StatusBadRequest && limitWords.MatchString(text) &&
			limitNoun.MatchString(text) && !otherLimits.MatchString(text)
	}
	return false
}

// RateLimitedError is a 429 that remained after all tries that could succeed within the
// limits of time, or a call that was not made so soon after one.
type RateLimitedError struct {
	// RetryAfter is how long to wait. It is 0 if the answer has no such header.
	RetryAfter time.Duration
	// Err is the answer. It is nil if the call was not made.
	Err *APIError
}

func (e *RateLimitedError) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("rate limited: no call is made for another %s", e.RetryAfter.Round(time.Second))
	case e.RetryAfter > 0:
		return fmt.Sprintf("rate limited, retry after %s: %s", e.RetryAfter, e.Err)
	}
	return fmt.Sprintf("rate limited: %s", e.Err)
}

// Is reports whether target is ErrRateLimited.
func (e *RateLimitedError) Is(target error) bool { return target == ErrRateLimited }

// Unwrap returns the *APIError, or nil.
func (e *RateLimitedError) Unwrap() error {
	if e.Err == nil {
		return nil // and not an error that holds a nil pointer
	}
	return e.Err
}

// MissingScopeError is a 403 because the credentials lack a scope.
type MissingScopeError struct {
	// Required are the scopes that the call needs. Granted are the scopes of the
	// credentials. Both are as listed by Bitbucket.
	Required, Granted []string
	// Err is the answer.
	Err *APIError
}

func (e *MissingScopeError) Error() string {
	return fmt.Sprintf("missing scope: required [%s], granted [%s]: %s",
		strings.Join(e.Required, " "), strings.Join(e.Granted, " "), e.Err)
}

// Is reports whether target is ErrMissingScope.
func (e *MissingScopeError) Is(target error) bool { return target == ErrMissingScope }

// Unwrap returns the *APIError.
func (e *MissingScopeError) Unwrap() error { return e.Err }

const maxMessage = 240 // characters of a server's text that are kept

var (
	unseen = regexp.MustCompile(`(?is)<(script|style|head)\b.*?</(script|style|head)>`)
	tags   = regexp.MustCompile(`(?s)<[^>]*>`)
)

// pageText converts an error page, HTML or plain text, to one line.
func pageText(body []byte) string {
	const enough = 16 << 10 // bytes of a page that are searched for its text
	if len(body) > enough {
		body = body[:enough]
	}
	text := string(body)
	if strings.Contains(text, "<") {
		text = tags.ReplaceAllString(unseen.ReplaceAllString(text, " "), " ")
		text = html.UnescapeString(text)
	}
	return text
}

// shorten returns one printable line of at most maxMessage characters.
func shorten(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	line := []rune(strings.Join(strings.Fields(text), " "))
	if len(line) > maxMessage {
		return string(line[:maxMessage]) + "…"
	}
	return string(line)
}
