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

// ErrCut says that calls were still being answered when the time was over.
var ErrCut = errors.New("calls were still being answered")

// Gate lets calls in only while this process leads. All others are answered
// UNAVAILABLE, which KEDA and the sidecars try again. It begins closed. Safe for
// concurrent use.
type Gate struct {
	mu sync.RWMutex
	// leads is nil while the gate is closed.
	leads func() bool
	// term ends with the gate's closing, and the streams with it.
	term  context.Context //nolint:containedctx // the life of the streams that are let in
	end   context.CancelFunc
	calls sync.WaitGroup
	// open are the connections by their peers' addresses.
	open map[string]net.Conn
}

// Listener gives a server's listener back, whose connections the gate knows: one
// over which a call was not let in is closed. KEDA keeps a connection for as long as
// it stands, and behind a Service's address a new one leads to the leader.
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
	if l.gate.open == nil {
		l.gate.open = map[string]net.Conn{}
	}
	l.gate.open[conn.RemoteAddr().String()] = conn
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
	if c.gate.open[address] == c.Conn {
		delete(c.gate.open, address)
	}
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// answerTime lets an answer out before its connection is closed.
const answerTime = 200 * time.Millisecond

// turnAway closes the connection of a call that was not let in, unless this process
// has led: then other calls may still be answered over it, and it ends soon anyway.
func (g *Gate) turnAway(ctx context.Context) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	time.AfterFunc(answerTime, func() {
		g.mu.RLock()
		defer g.mu.RUnlock()
		if conn := g.open[from.Addr.String()]; conn != nil && g.term == nil {
			_ = conn.Close() // it may be closed by now
		}
	})
}

// Open lets calls in for as long as leads says so: a process that was stopped for
// a while must not answer before it has noticed. An open gate stays as it is.
func (g *Gate) Open(leads func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leads != nil {
		return
	}
	g.leads = leads
	g.term, g.end = context.WithCancel(context.Background())
}

// Close lets no more calls in, ends the streams, and waits as long as ctx lasts
// until every call is answered; ErrCut if they are not by then.
func (g *Gate) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.end != nil {
		g.end()
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

// Leads reports whether a call would be let in.
func (g *Gate) Leads() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.leads != nil && g.leads()
}

// Options make a server's calls pass the gate.
func (g *Gate) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream)}
}

// speaksOfTheProcess tells the calls that answer whoever leads.
func speaksOfTheProcess(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// enter lets a call in; whoever is let in is done once.
func (g *Gate) enter() (term context.Context, err error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.leads == nil || !g.leads() {
		return nil, errStandby()
	}
	g.calls.Add(1)
	return g.term, nil
}

func errStandby() error { return status.Error(codes.Unavailable, "standby: not the leader") }

func (g *Gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if speaksOfTheProcess(info.FullMethod) {
		return handler(ctx, req)
	}
	if _, err := g.enter(); err != nil {
		g.turnAway(ctx)
		return nil, err
	}
	defer g.calls.Done()
	return handler(ctx, req)
}

func (g *Gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if speaksOfTheProcess(info.FullMethod) {
		return handler(srv, stream)
	}
	term, err := g.enter()
	if err != nil {
		g.turnAway(stream.Context())
		return err
	}
	defer g.calls.Done()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(term, cancel)()
	if err := handler(srv, &boundStream{ServerStream: stream, ctx: ctx}); term.Err() == nil {
		return err
	}
	return errStandby()
}

// boundStream is a stream that ends with the term.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc's own way to give a stream another context
}

// Context implements grpc.ServerStream.
func (s *boundStream) Context() context.Context { return s.ctx }
