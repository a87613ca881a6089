// Package externalscaler implements the gRPC service that KEDA calls, KEDA's
// ExternalScaler. It answers from the fleet's snapshots and the rules of package policy.
// It never calls Bitbucket or Kubernetes: every answer comes from memory, so that KEDA
// can poll at any rate.
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

// MetricName is the name of the only metric. KEDA adds a prefix to it.
const MetricName = "bitbucket-runners"

// handlerTimeout bounds each unary call. KEDA holds a lock while it waits and sets no
// deadline (pkg/scalers/external_scaler.go).
const handlerTimeout = 2 * time.Second

// Fleet is the part of the fleet that the service uses.
type Fleet interface {
	// Known reports whether there is a ScaledJob of that name, valid or not.
	Known(key fleet.GroupKey) bool
	// Carries reports whether a ScaledJob of that name has exactly this metadata.
	Carries(key fleet.GroupKey, metadata map[string]string) bool
	// Serves returns nil if a ScaledJob of that name has these settings.
	Serves(ctx context.Context, key fleet.GroupKey, spec runnergroup.Group) error
	// Call makes a group known if there is no Kubernetes to read it from.
	Call(ctx context.Context, key fleet.GroupKey, spec runnergroup.Group) (*fleet.GroupSnapshot, error)
	// Wait returns a channel that is closed when the next snapshot is ready.
	Wait() <-chan struct{}
}

// Service implements KEDA's ExternalScaler. StreamMetricSpec is not implemented, because
// the specification never changes.
type Service struct {
	pb.UnimplementedExternalScalerServer
	fleet     Fleet
	decisions *Decisions
	// kubernetes is true if groups are known from ScaledJobs, not from calls.
	kubernetes bool
	// lastCalls holds when KEDA last called for each group: an *atomic.Int64 in
	// nanoseconds since 1970, by GroupKey.
	lastCalls sync.Map
}

// LastCall returns when KEDA last called for the group. It is zero if KEDA has not
// called since the service was made.
func (s *Service) LastCall(key fleet.GroupKey) time.Time {
	if last, ok := s.lastCalls.Load(key); ok {
		return time.Unix(0, last.(*atomic.Int64).Load()) //nolint:forcetypeassert // nothing else is stored
	}
	return time.Time{}
}

// noteCall records that KEDA called for a group. It ignores unknown groups. Otherwise
// any caller could fill the memory.
func (s *Service) noteCall(key fleet.GroupKey) {
	last, ok := s.lastCalls.Load(key)
	if !ok {
		if !s.fleet.Known(key) {
			return
		}
		last, _ = s.lastCalls.LoadOrStore(key, &atomic.Int64{})
	}
	last.(*atomic.Int64).Store(time.Now().UnixNano()) //nolint:forcetypeassert // nothing else is stored
}

// NewService returns a Service. With kubernetes, it answers only for groups whose
// ScaledJob exists. Without, every valid call makes its group known.
func NewService(fleet Fleet, decisions *Decisions, kubernetes bool) *Service {
	return &Service{fleet: fleet, decisions: decisions, kubernetes: kubernetes}
}

// Register adds the service to a server.
func (s *Service) Register(server grpc.ServiceRegistrar) { pb.RegisterExternalScalerServer(server, s) }

// GetMetricSpec always returns one metric with target 1, because the metric's value is
// the desired number of Jobs. It returns no error: KEDA writes an Event on the ScaledJob
// for an error of GetMetrics, but not for one of GetMetricSpec.
func (s *Service) GetMetricSpec(context.Context, *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{MetricName: MetricName, TargetSize: 1, TargetSizeFloat: 1}}}, nil
}

// GetMetrics returns how many unfinished Jobs the group should have. Codes:
// INVALID_ARGUMENT (the metadata is invalid; lists every fault), NOT_FOUND (no ScaledJob
// has this metadata), PERMISSION_DENIED (the namespace may not use the credentials),
// FAILED_PRECONDITION (no usable credentials), UNAVAILABLE (there is no current list;
// GetMetrics never returns 0 instead), RESOURCE_EXHAUSTED (too many scopes).
func (s *Service) GetMetrics(ctx context.Context, req *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	decision, err := s.decide(ctx, req.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{{
		MetricName: MetricName, MetricValue: int64(decision.Target), MetricValueFloat: float64(decision.Target),
	}}}, nil
}

// IsActive returns true while the group should have at least one Job. While it is false,
// KEDA creates no Jobs. The codes are those of GetMetrics.
func (s *Service) IsActive(ctx context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	decision, err := s.decide(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &pb.IsActiveResponse{Result: decision.Target > 0}, nil
}

// StreamIsActive sends the current value at once, then each change, until the caller
// disconnects. While there is no current list it sends nothing. The codes are those of
// GetMetrics except UNAVAILABLE.
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

// decide returns the decision of the group that a call asks for.
func (s *Service) decide(ctx context.Context, ref *pb.ScaledObjectRef) (policy.Decision, error) {
	key := fleet.GroupKey{Namespace: ref.GetNamespace(), Name: ref.GetName()}
	defer s.noteCall(key)
	// KEDA nearly always sends metadata that was already read and is valid.
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

// find parses the metadata and checks that the group has it.
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

// statusOf gives an error the status code that shows KEDA's users where the fault is.
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
