package leader

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ErrCut means that calls were still in progress when Close's context ended.
var ErrCut = errors.New("calls were still in progress")

// Gate admits calls only while this process leads. It answers all others with
// UNAVAILABLE, so that KEDA and the sidecars try again. A new Gate is closed. A Gate is
// safe for concurrent use.
type Gate struct {
	mu sync.RWMutex
	// leads is nil while the gate is closed.
	leads func() bool
	// opened is the context of the time in which the gate is open. It ends when the gate
	// closes, which ends the admitted streams. It is nil before the first Open.
	opened      context.Context //nolint:containedctx // the life of the admitted streams
	endOpened   context.CancelFunc
	calls       sync.WaitGroup
	connections map[string]net.Conn // by the peer's address
}

// Listener wraps a server's listener, so that the gate can close a connection over
// which it refused a call. KEDA keeps a connection open as long as possible, and a new
// connection to the Service's address leads to the leader.
func (g *Gate) Listener(listener net.Listener) net.Listener {
	return &gatedListener{Listener: listener, gate: g}
}

type gatedListener struct {
	net.Listener
	gate *Gate
}

// Accept implements net.Listener.
func (l *gatedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	if l.gate.connections == nil {
		l.gate.connections = map[string]net.Conn{}
	}
	l.gate.connections[conn.RemoteAddr().String()] = conn
	return &gatedConn{Conn: conn, gate: l.gate}, nil
}

type gatedConn struct {
	net.Conn
	gate *Gate
}

// Close implements net.Conn.
func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	address := c.RemoteAddr().String()
	if c.gate.connections[address] == c.Conn {
		delete(c.gate.connections, address)
	}
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// closeDelay is the time for an answer to be sent before its connection is closed.
const closeDelay = 200 * time.Millisecond

// closeConnection closes the connection of a refused call, unless this process has led.
// In that case other calls may still be answered over the connection, and the process
// ends soon.
func (g *Gate) closeConnection(ctx context.Context) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	time.AfterFunc(closeDelay, func() {
		g.mu.RLock()
		defer g.mu.RUnlock()
		if conn := g.connections[from.Addr.String()]; conn != nil && g.opened == nil {
			_ = conn.Close() // it may already be closed
		}
	})
}

// Open admits calls while leads returns true. leads is called for each call, because a
// process that was suspended must not answer before it notices that it no longer leads.
// Open does nothing if the gate is already open.
func (g *Gate) Open(leads func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leads != nil {
		return
	}
	g.leads = leads
	g.opened, g.endOpened = context.WithCancel(context.Background())
}

// Close refuses new calls, ends the streams and waits until every call is answered. It
// returns ErrCut if ctx ends first.
func (g *Gate) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.endOpened != nil {
		g.endOpened()
	}
	g.leads = nil
	g.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		g.calls.Wait()
	}()
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return ErrCut
	}
}

// Leads reports whether a call would be admitted.
func (g *Gate) Leads() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.leads != nil && g.leads()
}

// Options returns the server options that make all calls pass the gate.
func (g *Gate) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream)}
}

// aboutProcess reports whether a method is about the process itself, such as health.
// Those are answered whether or not the process leads.
func aboutProcess(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// enter admits a call. If it returns no error, the caller calls g.calls.Done at the end
// of the call.
func (g *Gate) enter() (opened context.Context, err error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.leads == nil || !g.leads() {
		return nil, errStandby()
	}
	g.calls.Add(1)
	return g.opened, nil
}

func errStandby() error { return status.Error(codes.Unavailable, "standby: not the leader") }

func (g *Gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if aboutProcess(info.FullMethod) {
		return handler(ctx, req)
	}
	if _, err := g.enter(); err != nil {
		g.closeConnection(ctx)
		return nil, err
	}
	defer g.calls.Done()
	return handler(ctx, req)
}

func (g *Gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if aboutProcess(info.FullMethod) {
		return handler(srv, stream)
	}
	opened, err := g.enter()
	if err != nil {
		g.closeConnection(stream.Context())
		return err
	}
	defer g.calls.Done()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(opened, cancel)()
	if err := handler(srv, &boundStream{ServerStream: stream, ctx: ctx}); opened.Err() == nil {
		return err
	}
	return errStandby()
}

// boundStream is a stream that ends when the gate closes.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // the way to give a stream another context in grpc
}

// Context implements grpc.ServerStream.
func (s *boundStream) Context() context.Context { return s.ctx }
