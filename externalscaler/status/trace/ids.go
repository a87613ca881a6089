package trace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// NewProvider returns a provider with the options whose traces of runners have the ids that
// follow from their Jobs. It takes the sampler and the limits from the environment, as
// OpenTelemetry defines them.
func NewProvider(options ...sdktrace.TracerProviderOption) *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(append(options, sdktrace.WithIDGenerator(ids{}))...)
}

// jobKey is the key of a context's Job UID.
type jobKey struct{}

// ofJob returns a context in which a new trace has the ids that follow from a Job's UID.
func ofJob(uid string) context.Context {
	return context.WithValue(context.Background(), jobKey{}, uid)
}

// ids generates the ids of spans.
type ids struct{}

// NewIDs returns the ids of a new trace and of its root span.
func (ids) NewIDs(ctx context.Context) (trace oteltrace.TraceID, span oteltrace.SpanID) {
	if uid, ok := ctx.Value(jobKey{}).(string); ok {
		sum := sha256.Sum256([]byte("bitbucket-runner-scaler runner of Job " + uid))
		copy(trace[:], sum[:])
		copy(span[:], sum[len(trace):])
		return trace, span
	}
	_, _ = rand.Read(trace[:]) // it never fails
	return trace, ids{}.NewSpanID(ctx, trace)
}

// NewSpanID returns the id of a further span of a trace.
func (ids) NewSpanID(context.Context, oteltrace.TraceID) (span oteltrace.SpanID) {
	_, _ = rand.Read(span[:]) // it never fails
	return span
}
