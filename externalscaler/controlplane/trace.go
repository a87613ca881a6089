package controlplane

import (
	"context"

	"google.golang.org/grpc"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/status/trace"
)

// newTracer makes what traces the runners and KEDA's calls; nil without a provider.
func (p *ControlPlane) newTracer() *trace.Tracer {
	if p.config.Traces == nil {
		return nil
	}
	return trace.New(trace.Config{Provider: p.config.Traces, Fleet: p.fleet, Decisions: p.decisions, Queue: p.queue, Clock: clock.RealClock{}})
}

// traceOptions are the options of the gRPC server for traces.
func (p *ControlPlane) traceOptions() []grpc.ServerOption {
	if p.tracer == nil {
		return nil
	}
	return p.tracer.ServerOptions()
}

// traceRunners follows the runners until ctx ends.
func (p *ControlPlane) traceRunners(ctx context.Context) {
	if p.tracer != nil {
		p.tracer.Run(ctx)
	}
}
