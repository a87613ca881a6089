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

// Bounds of the server.
const (
	// maxRequest bounds a message; trigger metadata over 64 KiB is refused with
	// an error that says so, for which it must be read first. Above this grpc
	// answers RESOURCE_EXHAUSTED by itself.
	maxRequest = 1 << 20
	// maxConnectionAge makes KEDA resolve the Service again now and then; it
	// holds one connection an address and keeps it for ever otherwise.
	maxConnectionAge      = 5 * time.Minute
	maxConnectionAgeGrace = 30 * time.Second
	keepaliveTime         = 20 * time.Second
	keepaliveTimeout      = 10 * time.Second
	maxConcurrentStreams  = 4096
	// stopGrace bounds the graceful stop: open streams are cut after it.
	stopGrace = 5 * time.Second
)

// Registrable is a service that adds itself to a server.
type Registrable interface {
	Register(server grpc.ServiceRegistrar)
}

// Server is the gRPC server with its bounds, health and reflection.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
	log    *zap.Logger
}

// NewServer makes a server of the given services. A handler that panics answers
// INTERNAL, and the process lives. options come after the server's own: transport
// credentials, and interceptors, which run inside the guard against panics.
func NewServer(log *zap.Logger, options []grpc.ServerOption, services ...Registrable) *Server {
	s := &Server{log: log, health: health.NewServer()}
	s.grpc = grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
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

// Serve answers on the listener until ctx ends, then stops within 5 s.
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
