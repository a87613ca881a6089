package sidecar

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestEveryRefusalOfARegistrationIsTriedAgain(t *testing.T) {
	for _, code := range []codes.Code{
		codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Unauthenticated, codes.NotFound,
		codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition, codes.Internal,
	} {
		t.Run(code.String(), func(t *testing.T) {
			c, dir := startControlPlane(t), sidecartest.Folder(t)
			c.onRegister = func(try int) (*runnerv1.RegisterResponse, error) {
				if try < 4 {
					return nil, status.Error(code, "not now")
				}
				return aRunner(), nil
			}
			s := startSidecar(t, c, dir, nil)
			s.ready(t)
			s.end(t)
			if registers, _, deregisters := c.counts(); registers != 4 || deregisters != 1 {
				t.Errorf("%d registers and %d deregisters, want 4 and 1", registers, deregisters)
			}
		})
	}
}

func TestTheDelayThatTheControlPlaneAsksForIsKept(t *testing.T) {
	const asked = 200 * time.Millisecond
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	c.onRegister = func(try int) (*runnerv1.RegisterResponse, error) {
		if try > 1 {
			return aRunner(), nil
		}
		answer, err := status.New(codes.ResourceExhausted, "no room").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(asked)})
		if err != nil {
			return nil, err
		}
		return nil, answer.Err()
	}
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	if waited := c.registers[1].Sub(c.registers[0]); waited < asked {
		t.Errorf("asked again after %s, want %s at least", waited, asked)
	}
}

func TestLastingRefusalsAreRetriedSlowly(t *testing.T) {
	s := Sidecar{pace: defaultPace()}
	for name, tc := range map[string]struct {
		code     codes.Code
		since    time.Duration
		min, max time.Duration
	}{
		"unreachable":             {codes.Unavailable, time.Hour, 250 * time.Millisecond, 500 * time.Millisecond},
		"token not yet valid":     {codes.Unauthenticated, time.Minute, 250 * time.Millisecond, 500 * time.Millisecond},
		"token refused long":      {codes.Unauthenticated, time.Hour, 30 * time.Second, 33 * time.Second},
		"pod unknown long":        {codes.NotFound, time.Hour, 30 * time.Second, 33 * time.Second},
		"namespace not permitted": {codes.PermissionDenied, 0, 30 * time.Second, 33 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			wait := socket.Backoff{Base: s.pace.retryBase, Maximum: s.pace.retryMax}
			if got := s.retryDelay(status.Error(tc.code, "no"), &wait, tc.since); got < tc.min || got > tc.max {
				t.Errorf("delay %s, want %s to %s", got, tc.min, tc.max)
			}
		})
	}
}

func TestARegistrationWithoutAnAnswerIsDeregistered(t *testing.T) {
	for name, tc := range map[string]struct {
		code codes.Code
		want []string
	}{
		"may have been applied": {codes.Unavailable, []string{""}},
		"was not applied":       {codes.PermissionDenied, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := startControlPlane(t), sidecartest.Folder(t)
			c.onRegister = func(int) (*runnerv1.RegisterResponse, error) { return nil, status.Error(tc.code, "no") }
			s := startSidecar(t, c, dir, nil)
			sidecartest.Eventually(t, "it has tried to register", func() bool { n, _, _ := c.counts(); return n > 0 })
			if err := Ready(t.Context(), dir, 0); err == nil {
				t.Error("ready without a runner")
			}
			s.end(t)
			if diff := cmp.Diff(tc.want, c.deregisters); diff != "" {
				t.Errorf("deregistered (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheConnectionToAStandbyIsReplaced(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	looked := make(chan struct{})
	c.onRegister = func(try int) (*runnerv1.RegisterResponse, error) {
		if try == 1 {
			<-looked
			return nil, status.Error(codes.Unavailable, "standby")
		}
		return aRunner(), nil
	}
	s := startSidecar(t, c, dir, nil)
	s.registrar.mu.Lock()
	before := s.registrar.conn
	s.registrar.mu.Unlock()
	close(looked)
	s.ready(t)
	s.registrar.mu.Lock()
	defer s.registrar.mu.Unlock()
	if s.registrar.conn == before {
		t.Error("the connection that answered Unavailable is still used")
	}
}

// A pod that starts normally has no failed probe: the first one, which comes before the
// socket is there, waits until the runner is registered.
func TestTheFirstProbeOfANormalStartPasses(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	registered := make(chan struct{})
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) {
		<-registered
		return aRunner(), nil
	}
	probed := make(chan error, 1)
	go func() { probed <- Ready(t.Context(), dir, time.Minute) }()
	startSidecar(t, c, dir, nil)
	sidecartest.Eventually(t, "it has tried to register", func() bool { n, _, _ := c.counts(); return n > 0 })
	select {
	case err := <-probed:
		t.Fatalf("the probe ended before the registration: %v", err)
	default:
	}
	began := time.Now()
	close(registered)
	if err := <-probed; err != nil {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the probe passed %v after the registration", took)
	}
}

func TestAProbeFailsBeforeItsTimeout(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	c.onRegister = func(int) (*runnerv1.RegisterResponse, error) { return nil, status.Error(codes.Unavailable, "no") }
	s := startSidecar(t, c, dir, nil)
	sidecartest.Eventually(t, "it has tried to register", func() bool { n, _, _ := c.counts(); return n > 0 })
	for in, want := range map[string]error{dir: errNotReady, sidecartest.Folder(t): syscall.ENOENT} { // and before there is a socket
		began := time.Now()
		if err := Ready(t.Context(), in, 300*time.Millisecond); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if took := time.Since(began); took < 250*time.Millisecond {
			t.Errorf("it waited %v", took)
		}
	}
	if err := Ready(t.Context(), dir, -time.Second); err == nil {
		t.Error("a negative wait is accepted")
	}
	s.end(t)
}
