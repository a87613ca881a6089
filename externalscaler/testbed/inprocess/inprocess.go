// Package inprocess sends HTTP requests to a handler of the same process, without a network, so that
// tests can run on a virtual clock.
package inprocess

import (
	"io"
	"net/http"
	"net/http/httptest"
	"time"
)

// Transport is an http.RoundTripper that sends requests to a handler of this process.
type Transport struct{ Handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (p Transport) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recovered := recover(); recovered != nil { // how a handler drops a connection
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	served := req.Clone(req.Context())
	served.Host = req.URL.Host
	if served.Body == nil {
		served.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	recorder.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	p.Handler.ServeHTTP(recorder, served)
	return recorder.Result(), nil
}
