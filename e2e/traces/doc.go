// Package traces runs the control plane against the OTLP receiver of OpenTelemetry's collector,
// over gRPC and over HTTP. It is a module of its own, because nothing else needs the collector.
package traces
