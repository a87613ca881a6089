// Package otlp sends traces where OpenTelemetry's standard environment variables say: to a
// collector by OTLP, or to the console. Without them there are none.
//
// The variables that choose are read here. All others are read by OpenTelemetry's own packages:
// those of the exporters (endpoint, headers, timeout, compression, certificates), of the sampler,
// of the batches and of the limits.
package otlp

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"bitbucket-runner-scaler/externalscaler/status/trace"
)

// Settings are what the environment variables say. The zero value is no traces.
type Settings struct {
	// Exporter is otlp, console, or empty for none.
	Exporter string
	// Protocol of OTLP is grpc or http/protobuf.
	Protocol string
}

// Read reads the environment. It returns all faults.
func Read(lookup func(string) (string, bool)) (settings Settings, faults []error) {
	get := func(name string) string {
		value, _ := lookup(name)
		return strings.TrimSpace(value)
	}
	settings.Exporter = get("OTEL_TRACES_EXPORTER")
	if settings.Exporter == "" && cmp.Or(get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), get("OTEL_EXPORTER_OTLP_ENDPOINT")) != "" {
		settings.Exporter = "otlp"
	}
	switch settings.Exporter {
	case "none":
		settings.Exporter = ""
	case "", "console", "otlp":
	default:
		faults = append(faults, fmt.Errorf("OTEL_TRACES_EXPORTER: %q, want otlp, console or none", settings.Exporter))
	}
	name := "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	if get(name) == "" {
		name = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	settings.Protocol = cmp.Or(get(name), "http/protobuf")
	if settings.Protocol != "http/protobuf" && settings.Protocol != "grpc" {
		faults = append(faults, fmt.Errorf("%s: %q, want grpc or http/protobuf", name, settings.Protocol))
	}
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return Settings{}, nil
	}
	return settings, faults
}

// On reports whether there are to be traces.
func (s Settings) On() bool { return s.Exporter != "" }

// Service names the process that sends traces.
type Service struct {
	Version string
	// Instance distinguishes the replicas. If it is empty, it is random.
	Instance string
}

// NewProvider returns a provider that sends traces in batches. Shut it down to send the last one.
// Console traces are written to the writer.
func (s Settings) NewProvider(ctx context.Context, service Service, console io.Writer) (*sdktrace.TracerProvider, error) {
	exporter, err := s.exporter(ctx, console)
	if err != nil {
		return nil, fmt.Errorf("export traces: %w", err)
	}
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			semconv.ServiceName("bitbucket-runner-scaler"), semconv.ServiceVersion(service.Version),
			semconv.ServiceInstanceID(cmp.Or(service.Instance, uuid.NewString())),
		),
		resource.WithFromEnv(), // last, so that it wins
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return trace.NewProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described)), nil
}

func (s Settings) exporter(ctx context.Context, console io.Writer) (sdktrace.SpanExporter, error) {
	switch {
	case s.Exporter == "console":
		return stdouttrace.New(stdouttrace.WithWriter(console))
	case s.Protocol == "grpc":
		return otlptracegrpc.New(ctx)
	default:
		return otlptracehttp.New(ctx)
	}
}
