package externalscaler

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// The limits of the server.
const (
	// maxRequest is the maximum size of a message, in bytes. It is above the limit of
	// 64 KiB for trigger metadata, so that the service can read larger metadata and
	// answer with an error that explains the limit. grpc refuses larger messages with
	// RESOURCE_EXHAUSTED.
	maxRequest = 1 << 20
	// maxConnectionAge makes KEDA resolve the Service's name again from time to time.
	// Otherwise KEDA keeps its one connection per address for ever.
	maxConnectionAge      = 5 * time.Minute
	maxConnectionAgeGrace = 30 * time.Second
	keepaliveTime         = 20 * time.Second
	keepaliveTimeout      = 10 * time.Second
	maxConcurrentStreams  = 4096
	// readBuffer and writeBuffer are the sizes of the buffers of each connection, in bytes: there is
	// one connection per sidecar, and messages are small. A connection keeps that for reading; those
	// for writing are shared.
	readBuffer, writeBuffer = 1 << 10, 4 << 10
	// stopGrace bounds the graceful stop. After it, open streams are closed.
	stopGrace = 5 * time.Second
)

// Registrable is a service that adds itself to a server.
type Registrable interface {
	Register(server grpc.ServiceRegistrar)
}

// Server is a gRPC server with limits, health and reflection.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
	log    *zap.Logger
}

// NewServer returns a server of the given services. If a handler panics, the server
// answers INTERNAL and continues. options are applied after the server's own. They are
// transport credentials and interceptors, whose panics are recovered too.
func NewServer(log *zap.Logger, options []grpc.ServerOption, services ...Registrable) *Server {
	s := &Server{log: log, health: health.NewServer()}
	s.grpc = grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
		grpc.ReadBufferSize(readBuffer), grpc.WriteBufferSize(writeBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: maxConnectionAge, MaxConnectionAgeGrace: maxConnectionAgeGrace,
			Time: keepaliveTime, Timeout: keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.recoverUnary),
		grpc.ChainStreamInterceptor(s.recoverStream),
	}, options...)...)
	for _, service := range services {
		service.Register(s.grpc)
	}
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s
}

// GetServiceInfo returns the services with their methods.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo { return s.grpc.GetServiceInfo() }

// Serve serves on the listener until ctx ends. Then it stops within 5 s.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.grpc.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve grpc: %w", err)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	timer := time.AfterFunc(stopGrace, s.grpc.Stop)
	defer timer.Stop()
	s.grpc.GracefulStop()
	return nil
}

func (s *Server) recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer s.recovered(info.FullMethod, &err)
	return handler(ctx, req)
}

func (s *Server) recoverStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer s.recovered(info.FullMethod, &err)
	return handler(srv, stream)
}

func (s *Server) recovered(method string, err *error) {
	if r := recover(); r != nil {
		s.log.Error("handler panicked", zap.String("method", method), zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		*err = status.Error(codes.Internal, "internal error, see the scaler's log")
	}
}
