package externalscaler

import (
	"context"
	"errors"
	"testing"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// patient answers IsActive when it is told to, and streams until its context ends.
type patient struct {
	pb.UnimplementedExternalScalerServer
	begun, answer chan struct{}
}

func newPatient() patient {
	return patient{begun: make(chan struct{}, 1), answer: make(chan struct{})}
}

func (p patient) Register(server grpc.ServiceRegistrar) { pb.RegisterExternalScalerServer(server, p) }
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

func TestWhoMayEnter(t *testing.T) {
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
			conn, _ := serveWith(t, gate.Options(), service)
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

func TestClosingEndsStreamsAndWaitsForAnswers(t *testing.T) {
	var gate Gate
	gate.Open(always)
	service := newPatient()
	conn, _ := serveWith(t, gate.Options(), service)
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
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := gate.Close(over); !errors.Is(err, ErrCut) {
		t.Errorf("while a call is answered: got %v, want %v", err, ErrCut)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want it to look for another leader", err)
	}
	close(service.answer)
	if err := gate.Close(t.Context()); err != nil {
		t.Errorf("once it is answered: got %v", err)
	}
	if err := <-asked; err != nil {
		t.Errorf("the call was cut: %v", err)
	}
}
