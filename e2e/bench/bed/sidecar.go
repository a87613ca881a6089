package bed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Sidecar does what the sidecar of a pod does, over a connection of its own with the sidecar's
// settings and pauses, from an address of its own. Its runner has no process: its state is set at
// the emulator.
type Sidecar struct {
	Group Group
	UUID  string // of the runner

	token   string
	conn    *grpc.ClientConn
	control *emulator.Control

	mu     sync.Mutex
	report *runnerv1.AttachRequest
	stream runnerv1.RunnerService_AttachClient // nil while there is none
	// Broken counts the streams that ended or could not be opened.
	Broken atomic.Int64
}

// The sidecar's own: see jobfactory/sidecar.
const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	bufferSize       = 4 << 10
	attachSoon       = 200 * time.Millisecond
	attachLate       = 5 * time.Second
	registerSoon     = 500 * time.Millisecond
	registerLate     = 15 * time.Second
	settled          = 10 * time.Second
)

// newSidecar returns the nth sidecar, which has not called yet.
func (b *Bed) newSidecar(n int, group Group, token string) (*Sidecar, error) {
	// Each pod has an address of its own; the scaler bounds what one address may cost.
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n/250), byte(n%250+1))}}
	conn, err := grpc.NewClient("127.0.0.1:"+b.grpcPort,
		grpc.WithTransportCredentials(credentials.NewTLS(b.Certificate.client())),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return from.DialContext(ctx, "tcp", address)
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithReadBufferSize(bufferSize), grpc.WithWriteBufferSize(bufferSize))
	if err != nil {
		return nil, fmt.Errorf("connect a sidecar: %w", err)
	}
	return &Sidecar{Group: group, token: token, conn: conn, control: b.Control}, nil
}

func (s *Sidecar) close() { _ = s.conn.Close() } // fails only if it is closed already

func (s *Sidecar) authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token)
}

// register registers the runner and puts it online.
func (s *Sidecar) register(ctx context.Context) error {
	pause := socket.Backoff{Base: registerSoon, Maximum: registerLate}
	for {
		response, err := runnerv1.NewRunnerServiceClient(s.conn).Register(s.authorized(ctx), &runnerv1.RegisterRequest{})
		if err == nil {
			runner := response.GetRunner()
			if runner == nil {
				return fmt.Errorf("register a runner of %s: the Job was told to finish: %s", s.Group.Ref.GetName(), response.GetFinish().GetReason())
			}
			s.UUID = runner.GetUuid()
			s.report = &runnerv1.AttachRequest{RunnerUuid: s.UUID, Place: runner.GetPlace(), State: runnerv1.RunnerState_RUNNER_STATE_IDLE}
			return s.control.SetRunner(ctx, s.UUID, emulator.ActionOnline, "")
		}
		if !pause.Sleep(ctx) {
			return fmt.Errorf("register a runner of %s: %w", s.Group.Ref.GetName(), errors.Join(err, ctx.Err()))
		}
	}
}

// attach reports until ctx ends.
func (s *Sidecar) attach(ctx context.Context) {
	pause := socket.Backoff{Base: attachSoon, Maximum: attachLate}
	for {
		begun := time.Now()
		s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		s.Broken.Add(1)
		if time.Since(begun) > settled {
			pause.Reset()
		}
		if !pause.Sleep(ctx) {
			return
		}
	}
}

// once opens a stream and returns when it has ended.
func (s *Sidecar) once(ctx context.Context) {
	stream, err := runnerv1.NewRunnerServiceClient(s.conn).Attach(s.authorized(ctx))
	if err != nil {
		return
	}
	s.mu.Lock()
	s.stream = stream
	_ = stream.Send(s.report) // Recv returns the cause
	s.mu.Unlock()
	for err == nil {
		_, err = stream.Recv() // orders: none is expected
	}
	s.mu.Lock()
	s.stream = nil
	s.mu.Unlock()
}

// Begin has the runner begin a step: at Bitbucket, and then in its report. It returns when the
// report was sent.
func (s *Sidecar) Begin(ctx context.Context, step string) (reported time.Time, err error) {
	if err := s.control.SetRunner(ctx, s.UUID, emulator.ActionStep, step); err != nil {
		return time.Time{}, err
	}
	reported = time.Now()
	s.say(runnerv1.RunnerState_RUNNER_STATE_BUSY, step)
	return reported, nil
}

// Finish has the runner end its step.
func (s *Sidecar) Finish(ctx context.Context) error {
	if err := s.control.SetRunner(ctx, s.UUID, emulator.ActionIdle, ""); err != nil {
		return err
	}
	s.say(runnerv1.RunnerState_RUNNER_STATE_IDLE, "")
	return nil
}

// say reports a state.
func (s *Sidecar) say(state runnerv1.RunnerState, step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.State, s.report.StepUuid = state, step
	if step != "" {
		s.report.StepsBegun++
	}
	if s.stream != nil {
		_ = s.stream.Send(s.report) // the next stream begins with the report
	}
}
