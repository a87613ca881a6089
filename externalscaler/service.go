// Package externalscaler is the gRPC service that KEDA calls: KEDA's
// ExternalScaler, answered from the fleet's snapshots and the rules of package
// policy. Nothing here calls Bitbucket or Kubernetes; every answer comes from
// memory, so that KEDA may poll as often as it likes.
package externalscaler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// MetricName is the name of the one metric; KEDA puts its own prefix before it.
const MetricName = "bitbucket-runners"

// handlerTimeout bounds each unary call: KEDA holds a lock while it waits, and
// sets no deadline of its own (pkg/scalers/external_scaler.go).
const handlerTimeout = 2 * time.Second

// Fleet is what the service asks of the observed runners.
type Fleet interface {
	// Known reports whether there is a ScaledJob of that name, sound or not.
	Known(key fleet.GroupKey) bool
	// Carries reports whether a ScaledJob of that name has exactly this metadata.
	Carries(key fleet.GroupKey, metadata map[string]string) bool
	// Serves reports whether a ScaledJob of that name carries these settings.
	Serves(ctx context.Context, key fleet.GroupKey, spec runnergroup.Group) error
	// Call makes a group known where there is no Kubernetes to read it from.
	Call(ctx context.Context, key fleet.GroupKey, spec runnergroup.Group) (*fleet.GroupSnapshot, error)
	// Wait gives a channel that is closed when the next snapshot stands.
	Wait() <-chan struct{}
}

// Service implements KEDA's ExternalScaler. StreamMetricSpec stays
// Unimplemented: the specification never changes.
type Service struct {
	pb.UnimplementedExternalScalerServer
	fleet     Fleet
	decisions *Decisions
	// kubernetes: groups are known from ScaledJobs, not from calls.
	kubernetes bool
	// asked is when each group was last called for: an *atomic.Int64 in nanoseconds
	// since 1970, by GroupKey.
	asked sync.Map
}

// Asked is when the group was last called for; zero if never since the service was
// made.
func (s *Service) Asked(key fleet.GroupKey) time.Time {
	if last, ok := s.asked.Load(key); ok {
		return time.Unix(0, last.(*atomic.Int64).Load()) //nolint:forcetypeassert // nothing else is stored
	}
	return time.Time{}
}

// noteCall remembers that a group is called for; none that is not known, or anybody
// could fill the memory.
func (s *Service) noteCall(key fleet.GroupKey) {
	last, ok := s.asked.Load(key)
	if !ok {
		if !s.fleet.Known(key) {
			return
		}
		last, _ = s.asked.LoadOrStore(key, &atomic.Int64{})
	}
	last.(*atomic.Int64).Store(time.Now().UnixNano()) //nolint:forcetypeassert // nothing else is stored
}

// NewService makes the service. With kubernetes, only groups whose ScaledJob
// exists are answered; without, every well-formed call makes its group known.
func NewService(fleet Fleet, decisions *Decisions, kubernetes bool) *Service {
	return &Service{fleet: fleet, decisions: decisions, kubernetes: kubernetes}
}

// Register adds the service to a server.
func (s *Service) Register(server grpc.ServiceRegistrar) { pb.RegisterExternalScalerServer(server, s) }

// GetMetricSpec always gives one metric with target 1: the value is the number
// of Jobs that there should be, and an error here would be silent in KEDA
// (no event on the ScaledJob), whereas one from GetMetrics is seen.
func (s *Service) GetMetricSpec(context.Context, *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{MetricName: MetricName, TargetSize: 1, TargetSizeFloat: 1}}}, nil
}

// GetMetrics tells how many unfinished Jobs the group should have. Codes:
// INVALID_ARGUMENT (the metadata, every fault of it), NOT_FOUND (no ScaledJob
// carries it), PERMISSION_DENIED (the namespace may not use the credentials),
// FAILED_PRECONDITION (no usable credentials), UNAVAILABLE (nothing current is
// known; never a 0 instead), RESOURCE_EXHAUSTED (too many scopes).
func (s *Service) GetMetrics(ctx context.Context, req *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	decision, err := s.decide(ctx, req.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{
		MetricName: MetricName, MetricValue: int64(decision.Target), MetricValueFloat: float64(decision.Target),
	}}}, nil
}

// IsActive is true while the group should have any Job; KEDA creates none while
// it is false. Codes as for GetMetrics.
func (s *Service) IsActive(ctx context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	decision, err := s.decide(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &pb.IsActiveResponse{Result: decision.Target > 0}, nil
}

// StreamIsActive sends the present value at once, then each change, until the
// caller goes. While nothing current is known it stays silent. Codes as for
// GetMetrics, for what is wrong from the start.
func (s *Service) StreamIsActive(ref *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	ctx := stream.Context()
	sent, active := false, false
	for {
		wait := s.fleet.Wait()
		decision, err := s.decide(ctx, ref)
		switch {
		case err != nil && status.Code(err) != codes.Unavailable:
			return err
		case err == nil && (!sent || active != (decision.Target > 0)):
			sent, active = true, decision.Target > 0
			if err := stream.Send(&pb.IsActiveResponse{Result: active}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-wait:
		}
	}
}

// decide finds the group that a call asks for and its decision.
func (s *Service) decide(ctx context.Context, ref *pb.ScaledObjectRef) (policy.Decision, error) {
	key := fleet.GroupKey{Namespace: ref.GetNamespace(), Name: ref.GetName()}
	defer s.noteCall(key)
	// Nearly always KEDA sends what was read, and found sound, already.
	if !s.fleet.Carries(key, ref.GetScalerMetadata()) {
		if err := s.find(ctx, key, ref.GetScalerMetadata()); err != nil {
			return policy.Decision{}, statusOf(err)
		}
	}
	decision, err := s.decisions.Decide(key)
	if err != nil {
		return policy.Decision{}, statusOf(err)
	}
	return decision, nil
}

// find reads the metadata and finds the group that it is of.
func (s *Service) find(ctx context.Context, key fleet.GroupKey, metadata map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, handlerTimeout)
	defer cancel()
	spec, err := runnergroup.Parse(metadata)
	if err != nil {
		return err
	}
	if s.kubernetes {
		return s.fleet.Serves(ctx, key, spec)
	}
	_, err = s.fleet.Call(ctx, key, spec)
	return err
}

// statusOf gives an error the code that tells KEDA's users where to look.
func statusOf(err error) error {
	var invalid *runnergroup.InvalidError
	var duplicate *fleet.DuplicateError
	code := codes.Unavailable
	switch {
	case errors.As(err, &invalid), errors.As(err, &duplicate):
		code = codes.InvalidArgument
	case errors.Is(err, fleet.ErrUnknownGroup):
		code = codes.NotFound
	case errors.Is(err, credentials.ErrForbidden):
		code = codes.PermissionDenied
	case errors.Is(err, credentials.ErrUnknownSet):
		code = codes.FailedPrecondition
	case errors.Is(err, fleet.ErrTooManyScopes):
		code = codes.ResourceExhausted
	}
	return status.Error(code, err.Error())
}
