package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
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

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// role makes a process of this test binary a sidecar or its exec wrapper.
const role = "SIDECAR_TEST_ROLE"

const secret = "s3cr3t-of-the-runner"

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(m)
	case "run":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		s, err := New(Config{ScalerAddress: os.Args[2], TLS: TLSOff, TokenFile: filepath.Join(os.Args[1], "..", "token"), Dir: os.Args[1], Logger: testLogger()})
		if err == nil {
			err = s.Run(ctx)
		}
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "try":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		trial, err := Try(ctx, TrialConfig{Run: 300 * time.Millisecond, StopGrace: 500 * time.Millisecond, Command: os.Args[1:], Output: os.Stderr})
		stop()
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(trial)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "exec":
		_ = os.Unsetenv(role)
		code, err := Exec(context.Background(), ExecConfig{Dir: os.Args[1], Command: os.Args[2:], StopGrace: 500 * time.Millisecond, Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
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

// controlPlane records what sidecars say and answers as told. It is served over
// a real listener.
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
	try := len(c.deregisters)
	c.mu.Unlock()
	if err := c.onDeregister(ctx, try); err != nil {
		return nil, err
	}
	return &runnerv1.DeregisterResponse{Gone: true}, nil
}

// states are the states of the stream with this index, in short.
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

// latest is what the newest stream said last.
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

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
		pause(t.Context(), 5*time.Millisecond)
	}
}

// folder makes a shared folder whose socket's path is short enough.
func folder(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "sc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.WriteFile(filepath.Join(base, "token"), []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "run")
}

// running is a Sidecar within the test's process.
type running struct {
	*Sidecar
	sigterm context.CancelFunc
	done    chan error
}

func startSidecar(t *testing.T, c *controlPlane, dir string, adjust func(*pace)) *running {
	t.Helper()
	s, err := New(Config{ScalerAddress: c.address, TLS: TLSOff, TokenFile: filepath.Join(dir, "..", "token"), Dir: dir, Version: "test", Logger: testLogger()})
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
		for range r.done { // to its end; the test looked at the error if it wanted to
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
	case <-time.After(patience):
		t.Fatal("the sidecar did not end")
	}
}

func (r *running) ready(t *testing.T) {
	t.Helper()
	eventually(t, "the sidecar is ready", func() bool { return Ready(t.Context(), r.config.Dir) == nil })
}

// program is a process of this test binary.
type program struct {
	cmd            *exec.Cmd
	stdout, stderr output
}

// output is a buffer that may be read while it is written.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

func startProgram(t *testing.T, as string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(os.Environ(), role+"="+as)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			// Not SIGKILL: exec would leave the runner behind.
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			p.wait(t)
		}
		if t.Failed() {
			t.Logf("%s: stdout %q\nstderr %q", as, p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// startExec runs a shell script under the exec wrapper.
func startExec(t *testing.T, dir, script string) *program {
	t.Helper()
	return startProgram(t, "exec", dir, "/bin/sh", "-c", script)
}

// wait returns the exit code.
func (p *program) wait(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		t.Fatalf("the process did not end: %v", <-done)
		return 0
	}
}
