package bitbucket

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestErrorsContainBitbucketsMessage(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   error
		text   string
	}{
		"conflict":           {409, apiError("A runner with that uuid exists", ""), ErrConflict, "A runner with that uuid exists"},
		"unauthorized":       {401, apiError("Token is invalid", ""), ErrUnauthorized, "Token is invalid"},
		"limit":              {400, apiError("Runner limit exceeded", ""), ErrRunnerLimit, "Runner limit exceeded"},
		"limit in detail":    {400, apiError("Bad request", "You have reached the maximum of 100 runners"), ErrRunnerLimit, "100 runners"},
		"object as detail":   {400, `{"type":"error","error":{"message":"Bad","detail":{"a": [1, 2]},"fields":{"name":["too long"]}}}`, nil, `{"a":[1,2]} fields {"name":["too long"]}`},
		"HTML page":          {502, "<html><head><title>t</title><style>b{}</style></head><body><h1>Bad&nbsp;Gateway</h1>\n<p>sorry</p></body></html>", ErrOutcomeUnknown, ": Bad Gateway sorry"},
		"plain text":         {400, "nonsense\x00\x1b[31m\n\nhere", nil, "nonsense[31m here"},
		"nothing":            {400, "", nil, "status 400"},
		"long page is short": {400, strings.Repeat("word ", 100000), nil, "word …"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, tc.status, tc.body) })
			_, err := rec.client(t, nil).CreateRunner(t.Context(), acme, NewRunner{Name: "r"})
			var answered *APIError
			if !errors.As(err, &answered) || answered.Status != tc.status {
				t.Fatalf("got %v, want an APIError of status %d", err, tc.status)
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want it to contain %q", err, tc.text)
			}
			if len(err.Error()) > 600 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestOtherLimitsAreNotARunnerLimit(t *testing.T) {
	for _, message := range []string{
		"Runner name exceeds the limit of 50 characters", "A runner can have a maximum of 10 labels", "Invalid runner", "Rate limit",
	} {
		if errors.Is(&APIError{Status: 400, Message: message}, ErrRunnerLimit) {
			t.Errorf("%q was taken for a full scope", message)
		}
	}
}

func TestMissingScopeNamesBothLists(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		answer(w, 403, `{"type":"error","error":{"message":"Your credentials lack one or more required privilege scopes.",
			"detail":{"required":["runner:write"],"granted":["account","pipeline"]}}}`)
	})
	_, err := rec.client(t, nil).CreateRunner(t.Context(), acme, NewRunner{Name: "r"})
	var missing *MissingScopeError
	if !errors.As(err, &missing) || !errors.Is(err, ErrMissingScope) || !errors.Is(err, ErrForbidden) {
		t.Fatalf("got %v, want a MissingScopeError", err)
	}
	if want := "required [runner:write], granted [account pipeline]"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to contain %q", err, want)
	}
}
