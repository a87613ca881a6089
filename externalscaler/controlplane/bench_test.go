package controlplane_test

import (
	"context"
	"net"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

// empty is the reference for the benchmark: a handler that does nothing.
type empty struct {
	pb.UnimplementedExternalScalerServer
}

func (empty) GetMetrics(context.Context, *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	return &pb.GetMetricsResponse{}, nil
}

// BenchmarkGetMetrics measures a call for a group of 100 Jobs, and a call of an empty
// handler for comparison.
func BenchmarkGetMetrics(b *testing.B) {
	b.Run("reference", func(b *testing.B) {
		listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		server := grpc.NewServer()
		pb.RegisterExternalScalerServer(server, empty{})
		done := make(chan error, 1)
		go func() { done <- server.Serve(listener) }()
		ask(b, listener.Addr().String(), &pb.ScaledObjectRef{Namespace: "ns", Name: "builds", ScalerMetadata: settings()})
		server.Stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
	b.Run("scaler", func(b *testing.B) {
		bed, err := testbed.Start(b.Context(), testbed.Config{
			Dir: b.TempDir(), Emulator: emulator.Options{RateLimit: -1}, ControlPlane: quick(), KEDAInterval: time.Hour, Logger: zap.NewNop(),
		})
		if err != nil {
			b.Fatal(err)
		}
		group := bed.Cluster.Apply(fleet.GroupKey{Namespace: "ns", Name: "builds"}, settings())
		for range 100 {
			bed.Cluster.CreateJob(group)
		}
		ask(b, bed.GRPCAddress, ref(group))
		if err := bed.Close(); err != nil {
			b.Fatal(err)
		}
	})
}

func settings() map[string]string {
	return map[string]string{"workspace": "acme", "labels": "builds", "min": "1", "max": "100"}
}

func ask(b *testing.B, address string, ref *pb.ScaledObjectRef) {
	b.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	client := pb.NewExternalScalerClient(conn)
	request := &pb.GetMetricsRequest{ScaledObjectRef: ref}
	for { // until there is a first list
		if _, err = client.GetMetrics(b.Context(), request); err == nil {
			break
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.GetMetrics(b.Context(), request); err != nil {
				b.Error(err)
				return
			}
		}
	})
	if err := conn.Close(); err != nil {
		b.Fatal(err)
	}
}
