package controlplane_test

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/testbed"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// BenchmarkStateToSnapshot measures the time from a sidecar's report to a snapshot that
// shows it, in a group of 100 Jobs, and an empty call of the same server for comparison.
func BenchmarkStateToSnapshot(b *testing.B) {
	bed, err := testbed.Start(b.Context(), testbed.Config{
		Dir: b.TempDir(), Emulator: emulator.Options{RateLimit: -1}, ControlPlane: quick(), KEDAInterval: time.Hour, Logger: zap.NewNop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient(bed.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := conn.Close(); err != nil {
			b.Error(err)
		}
		if err := bed.Close(); err != nil {
			b.Error(err)
		}
	})
	group := bed.Cluster.Apply(fleet.GroupKey{Namespace: "ns", Name: "builds"}, settings())
	_, token := bed.Cluster.CreateJob(group)
	for range 99 {
		bed.Cluster.CreateJob(group)
	}
	b.Run("reference", func(b *testing.B) {
		client := healthpb.NewHealthClient(conn)
		for b.Loop() {
			if _, err := client.Check(b.Context(), &healthpb.HealthCheckRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scaler", func(b *testing.B) {
		stream, err := runnerv1.NewRunnerServiceClient(conn).Attach(metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+token))
		if err != nil {
			b.Fatal(err)
		}
		unrecognized := 0
		shown := func() int { return bed.Groups()[0].Unrecognized }
		for b.Loop() {
			unrecognized = 1 - unrecognized
			if err := stream.Send(&runnerv1.AttachRequest{UnrecognizedOutput: unrecognized == 1}); err != nil {
				b.Fatal(err)
			}
			for shown() != unrecognized {
			}
		}
	})
}
