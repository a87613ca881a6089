package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"bitbucket-runner-scaler/e2e/bench/bed"
)

// empty is the reference for GetMetrics: a handler that does nothing.
type empty struct {
	pb.UnimplementedExternalScalerServer
}

func (empty) GetMetrics(context.Context, *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{MetricName: "runners", MetricValue: 10, MetricValueFloat: 10}}}, nil
}

// serveReference serves the reference with grpc-go's defaults over TLS, and the metrics of its
// runtime, until ctx ends. It is a process of its own, as the scaler is.
func serveReference(ctx context.Context, grpcAddress, httpAddress, file, key string) error {
	transport, err := credentials.NewServerTLSFromFile(file, key)
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	server := grpc.NewServer(grpc.Creds(transport))
	pb.RegisterExternalScalerServer(server, empty{})
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", grpcAddress)
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	metrics := &http.Server{Addr: httpAddress, Handler: promhttp.Handler(), ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	go func() { failed <- metrics.ListenAndServe() }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	server.Stop()
	return errors.Join(err, metrics.Close())
}

// reference is the process of the reference.
func (r *run) reference(ctx context.Context, b *bed.Bed) (gauge bed.Gauge, conn *grpc.ClientConn, end func(), err error) {
	return b.Beside(ctx, r.self, func(grpcPort, httpPort string) []string {
		return []string{"-reference", "127.0.0.1:" + grpcPort + ",127.0.0.1:" + httpPort + "," + b.Certificate.File + "," + b.Certificate.Key}
	})
}
