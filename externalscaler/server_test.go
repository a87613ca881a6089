package externalscaler

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// patience bounds every wait for a condition.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server of these services in memory. stop stops it and returns how long
// that took, and Serve's error.
func serve(t *testing.T, services ...Registrable) (conn *grpc.ClientConn, stop func() (time.Duration, error)) {
	t.Helper()
	return serveWith(t, nil, services...)
}

// serveWith is serve with these server options.
func serveWith(t *testing.T, options []grpc.ServerOption, services ...Registrable) (conn *grpc.ClientConn, stop func() (time.Duration, error)) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(zap.NewNop(), options, services...).Serve(ctx, listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() (time.Duration, error) {
		begun := time.Now()
		cancel()
		err := <-done
		stopped = true
		return time.Since(begun), err
	}
	t.Cleanup(func() {
		if !stopped {
			if _, err := stop(); err != nil {
				t.Error(err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn, stop
}

// panicking is a service whose handlers panic.
type panicking struct {
	pb.UnimplementedExternalScalerServer
}

func (p panicking) Register(server grpc.ServiceRegistrar) { pb.RegisterExternalScalerServer(server, p) }
func (panicking) IsActive(context.Context, *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	panic("our own fault")
}

func (panicking) StreamIsActive(*pb.ScaledObjectRef, grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	panic(errors.New("another"))
}

func TestHandlerThatPanicsAnswersInternalAndTheServerContinues(t *testing.T) {
	conn, _ := serve(t, panicking{})
	client := pb.NewExternalScalerClient(conn)
	for range 2 {
		_, err := client.IsActive(t.Context(), &pb.ScaledObjectRef{})
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "our own fault") {
			t.Errorf("unary: got %v, want INTERNAL without the panic's text", err)
		}
		stream, err := client.StreamIsActive(t.Context(), &pb.ScaledObjectRef{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Internal {
			t.Errorf("stream: got %v, want INTERNAL", err)
		}
	}
}

func TestHealthAndReflection(t *testing.T) {
	conn, _ := serve(t, panicking{})
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: got %v, %v", health, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || !strings.Contains(answer.String(), "externalscaler.ExternalScaler") {
		t.Errorf("reflection: got %v, %v", answer, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("reflection: the stream is still open")
	}
}

// endless streams until its caller disconnects.
type endless struct {
	pb.UnimplementedExternalScalerServer
	begun chan struct{}
}

func (e endless) Register(server grpc.ServiceRegistrar) { pb.RegisterExternalScalerServer(server, e) }
func (e endless) StreamIsActive(_ *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	close(e.begun)
	<-stream.Context().Done()
	return stream.Context().Err()
}

func TestStopIsBoundedWhileAStreamIsOpen(t *testing.T) {
	service := endless{begun: make(chan struct{})}
	conn, stop := serve(t, service)
	stream, err := pb.NewExternalScalerClient(conn).StreamIsActive(t.Context(), &pb.ScaledObjectRef{})
	if err != nil {
		t.Fatal(err)
	}
	<-service.begun
	took, err := stop()
	if err != nil || took > patience {
		t.Errorf("stopped after %v: %v", took, err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream is still open")
	}
}

func TestServeReturnsTheListenersError(t *testing.T) {
	listener := bufconn.Listen(1)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := NewServer(zap.NewNop(), nil).Serve(t.Context(), listener); err == nil {
		t.Error("got nil")
	}
}
