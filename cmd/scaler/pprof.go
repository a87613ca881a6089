package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"
)

// pprofAddress returns where the profiles of --pprof-listen are served: at a loopback address,
// because a profile and a trace show what the process does to anyone who can reach them.
func (c config) pprofAddress() (string, error) {
	host, port, err := net.SplitHostPort(c.pprofListen)
	if err != nil || !isPort(port) {
		return "", fmt.Errorf("--pprof-listen: %q, want host:port or :port", c.pprofListen)
	}
	switch address := net.ParseIP(host); {
	case host == "":
		host = "127.0.0.1"
	case host == "localhost", address != nil && address.IsLoopback():
	default:
		return "", fmt.Errorf("--pprof-listen: %q, want :port or a loopback address; kubectl port-forward reaches it", c.pprofListen)
	}
	return net.JoinHostPort(host, port), nil
}

// serveProfiles serves the profiles of the Go runtime if --pprof-listen asks for them. end stops
// that.
func serveProfiles(ctx context.Context, c config, log *zap.Logger) (end func(), err error) {
	if c.pprofListen == "" {
		return func() {}, nil
	}
	address, err := c.pprofAddress()
	if err != nil {
		return nil, err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--pprof-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("profiles are no longer served", zap.Error(err))
		}
	}()
	log.Info("profiles are served", zap.Stringer("pprof", listener.Addr()))
	return func() {
		_ = server.Close() // nobody needs the end of a profile
		<-served
	}, nil
}
