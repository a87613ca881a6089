package wrapper

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

const stopGrace = 500 * time.Millisecond

func TestMain(m *testing.M) {
	switch os.Getenv(sidecartest.Role) {
	case "":
		goleak.VerifyTestMain(m)
	case "exec":
		_ = os.Unsetenv(sidecartest.Role)
		code, err := Exec(context.Background(), Config{Dir: os.Args[1], Command: os.Args[2:], StopGrace: stopGrace, Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	case "probe":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		config := ProbeConfig{Command: os.Args[3:], Output: os.Stderr}
		var err error
		if config.Run, err = time.ParseDuration(os.Args[1]); err == nil {
			config.StopGrace, err = time.ParseDuration(os.Args[2])
		}
		var result ProbeResult
		if err == nil {
			result, err = ProbeImage(ctx, config)
		}
		stop()
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(result)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// fakeSidecar answers on the socket as the sidecar does, and records what exec
// reports.
type fakeSidecar struct {
	dir string
	// answer is the answer to a fetch.
	answer socket.Message

	mu       sync.Mutex
	conns    map[*socket.Conn]bool
	received []string
	end      socket.Message // of the runner
	ended    chan struct{}
}

const secret = "s3cr3t-of-the-runner"

// serveEnvironment starts a sidecar that has an environment for the runner.
func serveEnvironment(t *testing.T) *fakeSidecar {
	t.Helper()
	return serveFake(t, socket.Message{Type: socket.TypeEnvironment, Environment: map[string]string{"OAUTH_CLIENT_SECRET": secret, "HOME": "/of/the/runner"}})
}

func serveFake(t *testing.T, answer socket.Message) *fakeSidecar {
	t.Helper()
	s := &fakeSidecar{dir: sidecartest.Folder(t), answer: answer, conns: map[*socket.Conn]bool{}, ended: make(chan struct{})}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := socket.Listen(t.Context(), s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.breakConnections()
		served.Wait()
	})
	return s
}

func (s *fakeSidecar) serve(conn net.Conn) {
	c := socket.NewConn(conn)
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	defer c.Close()
	for {
		m, err := c.Receive()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.received = append(s.received, strings.TrimSpace(strings.Join([]string{m.Type, m.State, m.Running.UUID}, " ")))
		s.mu.Unlock()
		switch m.Type {
		case socket.TypeFetch:
			_ = c.Send(s.answer)
		case socket.TypeEnded:
			s.mu.Lock()
			s.end = m
			s.mu.Unlock()
			close(s.ended)
		case socket.TypeDrain:
			<-s.ended
			_ = c.Send(socket.Message{Type: socket.TypeDrained})
		}
	}
}

// broadcast sends a message over every connection.
func (s *fakeSidecar) broadcast(m socket.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Send(m)
	}
}

func (s *fakeSidecar) stop(reason string) {
	s.broadcast(socket.Message{Type: socket.TypeStop, Reason: reason})
}

func (s *fakeSidecar) breakConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
		delete(s.conns, conn)
	}
}

// messages returns what has been received so far: types, states and steps.
func (s *fakeSidecar) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// waitFor waits until a message has been received.
func (s *fakeSidecar) waitFor(t *testing.T, message string) {
	t.Helper()
	sidecartest.Eventually(t, "exec has sent "+message, func() bool { return slices.Contains(s.messages(), message) })
}
