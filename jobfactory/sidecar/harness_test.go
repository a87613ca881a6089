package sidecar

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/wrapper"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const secret = "s3cr3t-of-the-runner"

func TestMain(m *testing.M) {
	switch os.Getenv(sidecartest.Role) {
	case "":
		goleak.VerifyTestMain(m)
	case "run":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		s, err := New(testConfig(os.Args[2], os.Args[1]))
		if err == nil {
			err = s.Run(ctx)
		}
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "exec":
		_ = os.Unsetenv(sidecartest.Role)
		code, err := wrapper.Exec(context.Background(), wrapper.Config{Dir: os.Args[1], Command: os.Args[2:], StopGrace: 500 * time.Millisecond, Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
}

func testConfig(address, dir string) Config {
	return Config{ScalerAddress: address, TLS: TLSOff, TokenFile: filepath.Join(dir, "..", "token"), Dir: dir, Version: "test", Logger: testLogger()}
}

func testLogger() *zap.Logger {
	config := zap.NewDevelopmentConfig()
	config.DisableStacktrace = true
	log, err := config.Build()
	if err != nil {
		panic(err)
	}
	return log
}

// controlPlane serves runner/v1 on a real listener. It records what sidecars send,
// and its fields say how it answers.
type controlPlane struct {
	runnerv1.UnimplementedRunnerServiceServer
	address string
	server  *grpc.Server

	onRegister   func(try int) (*runnerv1.RegisterResponse, error)
	onDeregister func(ctx context.Context, try int) error
	// refused, if not nil, is the error with which every stream is refused.
	refused atomic.Pointer[error]

	mu          sync.Mutex
	registers   []time.Time
	deregisters []string
	ending      *runnerv1.DeregisterRequest
	tokens      []string
	streams     [][]*runnerv1.AttachRequest
	orders      chan *runnerv1.AttachResponse
}

const runnerUUID = "{11111111-2222-4333-8444-555555555555}"

func aRunner() *runnerv1.RegisterResponse {
	return &runnerv1.RegisterResponse{Outcome: &runnerv1.RegisterResponse_Runner{Runner: &runnerv1.Runner{
		Uuid: runnerUUID, Name: "pod-0a1b2c3d",
		Environment: map[string]string{"RUNNER_UUID": runnerUUID, "OAUTH_CLIENT_SECRET": secret, "HOME": "/of/the/runner"},
	}}}
}

func startControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	c := &controlPlane{orders: make(chan *runnerv1.AttachResponse, 1)}
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) { return aRunner(), nil }
	c.onDeregister = func(context.Context, int) error { return nil }
	c.serve(t, "127.0.0.1:0")
	t.Cleanup(func() { c.server.Stop() })
	return c
}

func (c *controlPlane) serve(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.address = listener.Addr().String()
	server := grpc.NewServer()
	c.server = server
	runnerv1.RegisterRunnerServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
}

// restart ends every connection and serves the same address again.
func (c *controlPlane) restart(t *testing.T) {
	t.Helper()
	c.server.Stop()
	c.serve(t, c.address)
}

func (c *controlPlane) Register(ctx context.Context, _ *runnerv1.RegisterRequest) (*runnerv1.RegisterResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	c.mu.Lock()
	c.registers = append(c.registers, time.Now())
	c.tokens = append(c.tokens, strings.Join(md.Get("authorization"), ","))
	try := len(c.registers)
	c.mu.Unlock()
	return c.onRegister(try)
}

func (c *controlPlane) Attach(stream runnerv1.RunnerService_AttachServer) error {
	if refused := c.refused.Load(); refused != nil {
		return *refused
	}
	c.mu.Lock()
	index := len(c.streams)
	c.streams = append(c.streams, nil)
	c.mu.Unlock()
	received := make(chan error, 1)
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil {
				received <- nil
				return
			}
			c.mu.Lock()
			c.streams[index] = append(c.streams[index], request)
			c.mu.Unlock()
		}
	}()
	for {
		select {
		case err := <-received:
			return err
		case <-stream.Context().Done():
			return stream.Context().Err()
		case order := <-c.orders:
			if err := stream.Send(order); err != nil {
				return err
			}
		}
	}
}

func (c *controlPlane) Deregister(ctx context.Context, request *runnerv1.DeregisterRequest) (*runnerv1.DeregisterResponse, error) {
	c.mu.Lock()
	c.deregisters = append(c.deregisters, request.GetRunnerUuid())
	c.ending = request
	try := len(c.deregisters)
	c.mu.Unlock()
	if err := c.onDeregister(ctx, try); err != nil {
		return nil, err
	}
	return &runnerv1.DeregisterResponse{Gone: true}, nil
}

// request returns a request that came over a stream.
func (c *controlPlane) request(stream, index int) *runnerv1.AttachRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[stream][index]
}

// states returns the short names of the states that came over a stream.
func (c *controlPlane) states(index int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index >= len(c.streams) {
		return nil
	}
	states := make([]string, 0, len(c.streams[index]))
	for _, request := range c.streams[index] {
		state := strings.TrimPrefix(request.GetState().String(), "RUNNER_STATE_")
		if request.GetRunnerUuid() != runnerUUID {
			state += " of " + request.GetRunnerUuid()
		}
		states = append(states, strings.TrimSpace(state+" "+request.GetStepUuid()))
	}
	return states
}

func (c *controlPlane) last(index int) string {
	states := c.states(index)
	if len(states) == 0 {
		return ""
	}
	return states[len(states)-1]
}

// latest returns the last message of the newest stream.
func (c *controlPlane) latest() *runnerv1.AttachRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) == 0 || len(c.streams[len(c.streams)-1]) == 0 {
		return nil
	}
	stream := c.streams[len(c.streams)-1]
	return stream[len(stream)-1]
}

func (c *controlPlane) counts() (registers, streams, deregisters int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.registers), len(c.streams), len(c.deregisters)
}

func (c *controlPlane) stop(reason string) {
	c.orders <- &runnerv1.AttachResponse{Order: &runnerv1.AttachResponse_Stop{Stop: &runnerv1.Stop{Reason: reason}}}
}

// running is a Sidecar in the test's process.
type running struct {
	*Sidecar
	sigterm context.CancelFunc
	done    chan error
}

func startSidecar(t *testing.T, c *controlPlane, dir string, adjust func(*pace)) *running {
	t.Helper()
	s, err := New(testConfig(c.address, dir))
	if err != nil {
		t.Fatal(err)
	}
	s.pace.retryBase, s.pace.retryMax, s.pace.slow = time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
	s.pace.attachBase, s.pace.attachMax = time.Millisecond, 20*time.Millisecond
	if adjust != nil {
		adjust(&s.pace)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Sidecar: s, sigterm: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx); close(r.done) }()
	t.Cleanup(func() {
		cancel()
		for range r.done { // until Run has returned
		}
	})
	return r
}

// end sends SIGTERM and waits for the sidecar's end.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.sigterm()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(sidecartest.Patience):
		t.Fatal("the sidecar did not end")
	}
}

func (r *running) ready(t *testing.T) {
	t.Helper()
	sidecartest.Eventually(t, "the sidecar is ready", func() bool { return Ready(t.Context(), r.config.Dir, 0) == nil })
}
