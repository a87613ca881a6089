package network

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"bitbucket-runner-scaler/e2e/chaos/clock"
)

// API is one client's connection to the API server, over plain HTTP. client-go sends no
// token over plain HTTP, so API adds the client's. API translates times of whole seconds,
// which the API server sets, to the client's clock and back. Times with fractions come
// from clients (Leases, Events) and are not changed. API is safe for concurrent use.
type API struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{}

	mu      sync.Mutex
	mode    Mode
	conns   map[net.Conn]struct{}
	watches map[*watch]struct{}
}

// watch is a watch that can be ended.
type watch struct{ end context.CancelFunc }

// NewAPI opens a way to the API server at a URL, whose certificate is signed by that
// of caFile, for a client with a token and a clock.
func NewAPI(ctx context.Context, server, caFile, token string, c *clock.Clock) (*API, error) {
	target, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("way to the API server: %w", err)
	}
	authority, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("way to the API server: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("way to the API server: no certificate in %s", caFile)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("way to the API server: %w", err)
	}
	a := &API{listener: listener, served: make(chan struct{}), conns: map[net.Conn]struct{}{}, watches: map[*watch]struct{}{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Authorization", "Bearer "+token)
			r.Out.Header.Del("Accept-Encoding")
			if strings.Contains(r.Out.Header.Get("Content-Type"), "json") && r.Out.Body != nil {
				r.Out.Body = translated(r.Out.Body, c.Machine)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if strings.Contains(r.Header.Get("Content-Type"), "json") {
				r.Body = translated(r.Body, c.Shown)
			}
			return nil
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 100, DisableCompression: true},
		// Events of a watch must not wait in a buffer.
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	a.server = &http.Server{Handler: a.handler(proxy), ReadHeaderTimeout: time.Minute, ConnState: a.state, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(a.served)
		_ = a.server.Serve(listener) // until Close
	}()
	return a, nil
}

// URL returns the URL for the client.
func (a *API) URL() string { return "http://" + a.listener.Addr().String() }

// Set changes the mode. It closes open connections unless the mode is Pass.
func (a *API) Set(mode Mode) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mode = mode
	if mode != Pass {
		for conn := range a.conns {
			_ = conn.Close()
		}
	}
}

// DropWatches ends all watches, as an API server may do at any time.
func (a *API) DropWatches() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.watches {
		w.end()
	}
}

// Close closes the connection.
func (a *API) Close() error {
	err := a.server.Close()
	<-a.served
	return err
}

func (a *API) state(conn net.Conn, state http.ConnState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch state {
	case http.StateNew:
		a.conns[conn] = struct{}{}
		if a.mode == Refuse {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(a.conns, conn)
	}
}

// handler forwards calls and records watches.
func (a *API) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		mode := a.mode
		a.mu.Unlock()
		if mode != Pass {
			<-r.Context().Done() // hangs until the connection is cut
			panic(http.ErrAbortHandler)
		}
		if r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1" {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			running := &watch{end: cancel}
			a.mu.Lock()
			a.watches[running] = struct{}{}
			a.mu.Unlock()
			defer func() {
				a.mu.Lock()
				delete(a.watches, running)
				a.mu.Unlock()
			}()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// wholeSeconds is the format of the API server's times.
var wholeSeconds = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)

// timeLength is the length of such a time with its quotes.
const timeLength = len(`"2006-01-02T15:04:05Z"`)

// translated returns a body in which each such time is replaced by one of the same length.
func translated(body io.ReadCloser, to func(time.Time) time.Time) io.ReadCloser {
	return &translator{body: body, to: to}
}

type translator struct {
	body  io.ReadCloser
	to    func(time.Time) time.Time
	ready []byte // translated, not yet returned
	rest  []byte // what may be the beginning of a time
	err   error
}

// Read returns the bytes that are translated so far. It keeps the last bytes back only if
// they may be the beginning of a time.
func (t *translator) Read(p []byte) (int, error) {
	for len(t.ready) == 0 && t.err == nil {
		buffer := make([]byte, 32<<10)
		n, err := t.body.Read(buffer)
		t.err = err
		text := wholeSeconds.ReplaceAllFunc(slices.Concat(t.rest, buffer[:n]), t.translate)
		keep := 0
		if err == nil {
			keep = begun(text)
		}
		t.ready = text[:len(text)-keep]
		t.rest = bytes.Clone(text[len(text)-keep:])
	}
	n := copy(p, t.ready)
	t.ready = t.ready[n:]
	if n == 0 && t.err != nil {
		return 0, t.err
	}
	return n, nil
}

// begun returns how many bytes at the end may be the beginning of a time.
func begun(text []byte) int {
	from := max(0, len(text)-timeLength+1)
	i := bytes.LastIndexByte(text[from:], '"')
	if i < 0 || bytes.IndexFunc(text[from+i+1:], func(r rune) bool { return !strings.ContainsRune("0123456789-:TZ", r) }) >= 0 {
		return 0
	}
	return len(text) - from - i
}

func (t *translator) translate(quoted []byte) []byte {
	given, err := time.Parse(`"`+time.RFC3339+`"`, string(quoted))
	if err != nil {
		return quoted
	}
	text := t.to(given).UTC().Format(`"` + time.RFC3339 + `"`)
	if len(text) != len(quoted) {
		return quoted
	}
	return []byte(text)
}

func (t *translator) Close() error { return t.body.Close() }
