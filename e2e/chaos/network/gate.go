// Package network connects the parts of a round. It forwards connections, as a Service
// does, and can cut, refuse or hang them. The connection to the API server also translates
// times for processes with another clock.
package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Mode is how a Gate treats connections.
type Mode int

const (
	// Pass forwards them.
	Pass Mode = iota
	// Refuse closes each at once.
	Refuse
	// Hang accepts them and never answers.
	Hang
)

// Gate forwards the connections to a loopback address to a target that may change. It is
// safe for concurrent use.
type Gate struct {
	listener net.Listener
	target   func() (address string, ok bool)
	serving  sync.WaitGroup

	mu    sync.Mutex
	mode  Mode
	conns map[net.Conn]string // with its target
	ended bool
}

// NewGate opens a gate. It calls target for each connection. Without a target it refuses the
// connection.
func NewGate(ctx context.Context, target func() (address string, ok bool)) (*Gate, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a gate: %w", err)
	}
	g := &Gate{listener: listener, target: target, conns: map[net.Conn]string{}}
	g.serving.Go(g.accept)
	return g, nil
}

// Fixed returns a target that never changes.
func Fixed(address string) func() (string, bool) {
	return func() (string, bool) { return address, true }
}

// Address returns the address on which the gate listens.
func (g *Gate) Address() string { return g.listener.Addr().String() }

// Set changes the mode. It closes open connections unless the mode is Pass.
func (g *Gate) Set(mode Mode) {
	g.mu.Lock()
	g.mode = mode
	g.mu.Unlock()
	if mode != Pass {
		g.Cut(func(string) bool { return true })
	}
}

// Cut closes the open connections to these targets.
func (g *Gate) Cut(which func(target string) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn, target := range g.conns {
		if which(target) {
			_ = conn.Close() // ends both directions
		}
	}
}

// Close closes the gate and all its connections.
func (g *Gate) Close() error {
	err := g.listener.Close()
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.Cut(func(string) bool { return true })
	g.serving.Wait()
	return err
}

func (g *Gate) accept() {
	for {
		conn, err := g.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // such as too many open files
		}
		g.serving.Go(func() { g.serve(conn) })
	}
}

// enter records a connection. It returns false if the connection must be closed.
func (g *Gate) enter(conn net.Conn, target string) (mode Mode, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || g.mode == Refuse {
		return g.mode, false
	}
	g.conns[conn] = target
	return g.mode, true
}

func (g *Gate) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		g.mu.Lock()
		delete(g.conns, conn)
		g.mu.Unlock()
	}()
	target, ok := g.target()
	if !ok {
		return
	}
	mode, ok := g.enter(conn, target)
	if !ok {
		return
	}
	if mode == Hang {
		_, _ = io.Copy(io.Discard, conn) // until it is cut
		return
	}
	var dialer net.Dialer
	far, err := dialer.DialContext(context.Background(), "tcp", target)
	if err != nil {
		return // refused, as the caller sees now
	}
	defer func() { _ = far.Close() }()
	both := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		both <- struct{}{}
	}
	go pipe(far, conn)
	go pipe(conn, far)
	<-both // either end ends both
	_, _ = far.Close(), conn.Close()
	<-both
}
