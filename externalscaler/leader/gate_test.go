package leader

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// patient answers IsActive once answer is closed, and streams until its context ends.
type patient struct {
	pb.UnimplementedExternalScalerServer
	begun, answer chan struct{}
}

func newPatient() patient {
	return patient{begun: make(chan struct{}, 1), answer: make(chan struct{})}
}

func (p patient) IsActive(context.Context, *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	p.begun <- struct{}{}
	<-p.answer
	return &pb.IsActiveResponse{Result: true}, nil
}

func (p patient) StreamIsActive(_ *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	p.begun <- struct{}{}
	<-stream.Context().Done()
	return status.FromContextError(stream.Context().Err()).Err()
}

func always() bool { return true }

// serverOf returns a server whose calls pass the gate.
func serverOf(gate *Gate, service patient) *grpc.Server {
	server := grpc.NewServer(gate.Options()...)
	pb.RegisterExternalScalerServer(server, service)
	healthpb.RegisterHealthServer(server, health.NewServer())
	return server
}

// serve runs a server in memory until the test ends.
func serve(t *testing.T, gate *Gate, service patient) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := serverOf(gate, service)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func TestGateAdmitsCallsOnlyWhileOpenAndLeading(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(g *Gate)
		want    codes.Code
	}{
		"before it is opened":          {func(*Gate) {}, codes.Unavailable},
		"open":                         {func(g *Gate) { g.Open(always) }, codes.OK},
		"open, while another may lead": {func(g *Gate) { g.Open(func() bool { return false }) }, codes.Unavailable},
		"closed again": {func(g *Gate) {
			g.Open(always)
			if err := g.Close(context.Background()); err != nil {
				panic(err)
			}
		}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var gate Gate
			c.prepare(&gate)
			service := newPatient()
			close(service.answer)
			conn := serve(t, &gate, service)
			_, err := pb.NewExternalScalerClient(conn).IsActive(t.Context(), &pb.ScaledObjectRef{})
			if status.Code(err) != c.want || gate.Leads() != (c.want == codes.OK) {
				t.Errorf("got %v, leads %v, want %v", err, gate.Leads(), c.want)
			}
			if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
				t.Errorf("health: got %v", err)
			}
		})
	}
}

func TestCloseEndsStreamsAndWaitsForCalls(t *testing.T) {
	var gate Gate
	gate.Open(always)
	service := newPatient()
	conn := serve(t, &gate, service)
	client := pb.NewExternalScalerClient(conn)
	stream, err := client.StreamIsActive(t.Context(), &pb.ScaledObjectRef{})
	if err != nil {
		t.Fatal(err)
	}
	<-service.begun
	asked := make(chan error, 1)
	go func() {
		_, err := client.IsActive(t.Context(), &pb.ScaledObjectRef{})
		asked <- err
	}()
	<-service.begun
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := gate.Close(ended); !errors.Is(err, ErrCut) {
		t.Errorf("while a call is in progress: got %v, want %v", err, ErrCut)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want UNAVAILABLE", err)
	}
	close(service.answer)
	if err := gate.Close(t.Context()); err != nil {
		t.Errorf("after the call: got %v", err)
	}
	if err := <-asked; err != nil {
		t.Errorf("the call was cut: %v", err)
	}
}

// counting counts the connections of a listener.
type counting struct {
	net.Listener
	accepted atomic.Int32
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}

func TestRefusedCallerConnectsAgain(t *testing.T) {
	var gate Gate
	tcp, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := &counting{Listener: tcp}
	server := serverOf(&gate, newPatient())
	done := make(chan error, 1)
	go func() { done <- server.Serve(gate.Listener(listener)) }()
	conn, err := grpc.NewClient(tcp.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client := pb.NewExternalScalerClient(conn)
	deadline := time.Now().Add(time.Minute)
	for listener.accepted.Load() < 2 { // behind a Service, the second may lead to the leader
		if _, err := client.GetMetricSpec(t.Context(), &pb.ScaledObjectRef{}); status.Code(err) != codes.Unavailable {
			t.Fatalf("a standby: got %v", err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection to the standby stays open")
		}
	}
	gate.Open(always)
	for answered := 0; answered < 10; { // the connection of the last refused call is closed later
		if _, err := client.GetMetricSpec(t.Context(), &pb.ScaledObjectRef{}); status.Code(err) == codes.Unimplemented {
			answered++
		} else {
			answered = 0
		}
		if time.Now().After(deadline) {
			t.Fatal("the leader does not answer")
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	server.GracefulStop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	gate.mu.RLock()
	defer gate.mu.RUnlock()
	if len(gate.connections) != 0 {
		t.Errorf("%d closed connections are still in the gate", len(gate.connections))
	}
}
