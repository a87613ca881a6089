package trace

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// keptCalls is how many calls per group are remembered. A Job is seen within a second or two of
// the call that asked for it, and KEDA calls at most once per second.
const keptCalls = 8

// call is one GetMetrics that was answered.
type call struct {
	at       time.Time
	span     oteltrace.SpanContext
	decision policy.Decision
}

// calls are the last ones of each group. They are safe for concurrent use.
type calls struct {
	mu    sync.Mutex
	known map[fleet.GroupKey][]call // oldest first
}

func newCalls() *calls { return &calls{known: map[fleet.GroupKey][]call{}} }

func (c *calls) add(key fleet.GroupKey, answered call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.known[key]
	if len(last) == keptCalls {
		last = slices.Delete(last, 0, 1)
	}
	c.known[key] = append(last, answered)
}

// before returns the last call before a Job was created. Kubernetes gives that in whole seconds.
func (c *calls) before(key fleet.GroupKey, created time.Time) (found call, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := created
	if created.Nanosecond() == 0 {
		until = created.Add(time.Second - 1)
	}
	for _, answered := range c.known[key] {
		if !answered.at.After(until) {
			found, ok = answered, true
		}
	}
	return found, ok
}

// keep forgets the groups that do not exist.
func (c *calls) keep(groups map[fleet.GroupKey]struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.known {
		if _, exists := groups[key]; !exists {
			delete(c.known, key)
		}
	}
}

// ServerOptions make a span of each call of KEDA, in the caller's trace if the call has one, and
// remember the calls for the traces of the runners.
func (t *Tracer) ServerOptions() []grpc.ServerOption {
	service := "/" + pb.ExternalScaler_ServiceDesc.ServiceName + "/"
	return []grpc.ServerOption{
		grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(t.config.Provider), otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
			otelgrpc.WithPropagators(propagation.TraceContext{}),
			otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return strings.HasPrefix(info.FullMethodName, service) }),
		)),
		grpc.ChainUnaryInterceptor(t.noteCall),
	}
}

func (t *Tracer) noteCall(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	asked, ok := request.(*pb.GetMetricsRequest)
	if !ok {
		return handler(ctx, request)
	}
	at := t.config.Clock.Now()
	response, err := handler(ctx, request)
	key := fleet.GroupKey{Namespace: asked.GetScaledObjectRef().GetNamespace(), Name: asked.GetScaledObjectRef().GetName()}
	span := oteltrace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String(groupKey, key.String()))
	if err != nil {
		return nil, err
	}
	if decision, fault := t.config.Decisions.Decide(key); fault == nil {
		span.SetAttributes(decided(decision)...)
		t.calls.add(key, call{at: at, span: span.SpanContext(), decision: decision})
	}
	return response, nil
}
