package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/status/web"
)

// The answer to HEAD is that to GET without its body, so it ends and keeps no stream open.
func TestTheAnswerToHEADEnds(t *testing.T) {
	streams := web.NewStreams(func() <-chan struct{} { return nil }, time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	recorder := httptest.NewRecorder()
	streams.Serve(recorder, httptest.NewRequestWithContext(ctx, http.MethodHead, "/live", http.NoBody), func() (string, []byte, error) { return "a", []byte("a"), nil })
	if ctx.Err() != nil {
		t.Error("the answer to HEAD has no end")
	}
	if kind := recorder.Header().Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("Content-Type %q", kind)
	}
}
