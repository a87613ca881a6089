package sidecar

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// maxConns bounds the connections that are served at once: one of `sidecar exec`,
// one of the preStop hook, and probes.
const maxConns = 16

// socketServer serves the socket to the processes of the pod.
type socketServer struct {
	state    *state
	log      *zap.Logger
	listener net.Listener
}

func newSocketServer(ctx context.Context, dir string, s *state, log *zap.Logger) (*socketServer, error) {
	listener, err := socket.Listen(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &socketServer{state: s, log: log, listener: listener}, nil
}

// serve answers clients until ctx ends.
func (s *socketServer) serve(ctx context.Context) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	defer context.AfterFunc(ctx, func() { _ = s.listener.Close() })()
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := s.listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			s.answer(ctx, socket.NewConn(conn))
		})
	}
}

// answer serves one client until it has its answer or goes away.
func (s *socketServer) answer(ctx context.Context, conn *socket.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, conn.Close)()
	conn.SetReadDeadline(time.Now().Add(socket.Timeout))
	first, err := conn.Receive()
	if err != nil {
		return // the client went away without a message
	}
	conn.SetReadDeadline(time.Time{})
	switch first.Type {
	case socket.TypeReady:
		if first.Wait && !s.waitForDecision(ctx, conn) {
			return // the probe has given up, and another follows
		}
		_ = conn.Send(socket.Message{Type: socket.TypeReady, Ready: s.state.get().phase != registering}) // the probe asks again
	case socket.TypeFetch:
		s.answerFetch(ctx, conn)
	case socket.TypeDrain:
		s.answerDrain(ctx, conn)
	case socket.TypeState:
		if s.state.get().phase != handedOut {
			_ = conn.Send(socket.Message{Type: socket.TypeRefused, Reason: "the environment is not handed out"})
			return
		}
		s.session(ctx, conn, &first)
	default:
		_ = conn.Send(socket.Message{Type: socket.TypeRefused, Reason: "unknown first message"})
	}
}

// answerFetch answers `sidecar exec` once the control plane has decided.
func (s *socketServer) answerFetch(ctx context.Context, conn *socket.Conn) {
	if !s.waitForDecision(ctx, conn) {
		return
	}
	answer, err := s.state.handOut()
	if err != nil {
		s.log.Error("the environment was not handed out, exec will ask again", zap.Error(err))
		return
	}
	sent := conn.Send(answer)
	switch {
	case answer.Type == socket.TypeFinish:
		s.log.Info("exec has no runner to start", zap.String("reason", answer.Reason))
	case answer.Type == socket.TypeRefused:
		s.log.Warn("refused the environment to a second client")
	case sent != nil:
		s.log.Error("the environment did not reach exec", zap.Error(sent))
	default:
		s.log.Info("handed out the environment")
		s.session(ctx, conn, nil)
	}
}

// waitForDecision waits until the control plane has decided about the Job. It
// returns false if ctx ends or the client goes away: an environment that is sent to
// a client that is gone would be lost.
func (s *socketServer) waitForDecision(ctx context.Context, conn *socket.Conn) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		// The client sends nothing while it waits.
		if conn.WaitForPeer() != nil {
			cancel()
		}
	}()
	_, decided := s.state.wait(ctx, func(now snapshot) bool { return now.phase != registering })
	conn.SetReadDeadline(time.Now()) // ends the watch
	<-watching
	conn.SetReadDeadline(time.Time{})
	return decided
}

// answerDrain answers the preStop hook once no runner process is left or can still
// start.
func (s *socketServer) answerDrain(ctx context.Context, conn *socket.Conn) {
	s.log.Info("the pod is being deleted, its runner ends once it is idle")
	s.state.terminate()
	_, drained := s.state.wait(ctx, func(now snapshot) bool {
		return now.ended || now.phase == registering || now.phase == finished
	})
	if drained {
		_ = conn.Send(socket.Message{Type: socket.TypeDrained}) // a hook that lost the connection asks again
	}
}

// session takes reports from `sidecar exec` and sends it the order to stop, until
// the connection ends. first is a message that has been received already.
func (s *socketServer) session(ctx context.Context, conn *socket.Conn, first *socket.Message) {
	exec := s.state.connect()
	if first != nil {
		s.take(exec, *first)
	}
	ctx, cancel := context.WithCancel(ctx)
	var orders sync.WaitGroup
	orders.Go(func() { s.sendStop(ctx, conn) })
	for {
		m, err := conn.Receive()
		if err != nil {
			break
		}
		s.take(exec, m)
	}
	cancel()
	orders.Wait()
	s.state.disconnect(exec)
}

// sendStop sends the order to stop as soon as there is one.
func (s *socketServer) sendStop(ctx context.Context, conn *socket.Conn) {
	now, stop := s.state.wait(ctx, func(now snapshot) bool { return now.stop })
	if !stop {
		return
	}
	if err := conn.Send(socket.Message{Type: socket.TypeStop, Reason: now.stopReason, Terminating: now.terminating}); err != nil {
		conn.Close() // exec connects again and gets the order then
	}
}

func (s *socketServer) take(exec int, m socket.Message) {
	switch m.Type {
	case socket.TypeState:
		s.state.report(exec, m.Report())
	case socket.TypeEnded:
		s.log.Info("the runner ended", zap.Int("exitCode", m.ExitCode))
		s.state.exited(exit{code: m.ExitCode, lastLine: m.LastLine})
		if err := s.state.end(); err != nil {
			s.log.Error("a restarted sidecar would not know that the runner has ended", zap.Error(err))
		}
	}
}
