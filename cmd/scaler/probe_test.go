package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answering serves the status codes in turn, the last one from then on.
func answering(t *testing.T, codes ...int) (url string) {
	t.Helper()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "starting", codes[min(int(requests.Add(1)), len(codes))-1])
	}))
	t.Cleanup(server.Close)
	return server.URL + "/readyz"
}

// probed runs the command and returns its exit code and its output.
func probed(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"probe"}, args...), empty, nil, &out, &errs)
	return code, out.String(), errs.String()
}

func TestAProbeWaitsUntilTheScalerIsReady(t *testing.T) {
	url := answering(t, http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusOK)
	if err := probe(t.Context(), url, time.Millisecond); err != nil {
		t.Error(err)
	}
	if code, stdout, stderr := probed(t, url); code != 0 || stdout != url+" answers\n" {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
}

func TestAProbeFailsIfTheScalerDoesNotServe(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, c := range map[string]struct{ url, want string }{
		"it starts":    {answering(t, http.StatusServiceUnavailable), "503 Service Unavailable"},
		"another path": {answering(t, http.StatusNotFound), "404 Not Found"},
		"nobody":       {gone.URL, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, stderr := probed(t, "--timeout", "100ms", c.url); code != 1 || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, %s, want 1 and %s", code, stderr, c.want)
			}
		})
	}
	if code := run(t.Context(), []string{"probe"}, empty, nil, io.Discard, io.Discard); code != 2 {
		t.Errorf("without a URL: exit code %d, want 2", code)
	}
}

// A request to such a URL could never succeed, so nothing is worth waiting for.
func TestAProbeRefusesAtOnceWhatIsNoURL(t *testing.T) {
	for _, given := range []string{"not a url", "ftp://x", "127.0.0.1:1", "http://", "http://127.0.0.1:99999/"} {
		code, _, stderr := probed(t, "--timeout", "100ms", given)
		if code != 2 || !strings.Contains(stderr, "want an http or https URL") {
			t.Errorf("%s: exit code %d, %s, want 2 and what is accepted", given, code, stderr)
		}
	}
}
