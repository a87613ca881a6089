package emulator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// TB is the part of *testing.T that NewTestServer uses, so that the emulator's binary does
// not link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// NewTestServer serves an emulator on loopback until the test ends. It returns the URL
// without a slash at the end.
func NewTestServer(tb TB, options Options) (url string, s *Server) {
	tb.Helper()
	if err := options.Validate(); err != nil {
		tb.Fatalf("emulator options: %v", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("serve the emulator: %v", err)
	}
	s = New(options)
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tb.Cleanup(func() {
		s.Close()
		// Close at once, because clients may keep connections open after the test.
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("serve the emulator: %v", err)
		}
	})
	return "http://" + listener.Addr().String(), s
}
