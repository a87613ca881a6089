package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/controlplane"
)

// silent is a collector that never answers.
type silent struct{}

func (silent) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
	<-ctx.Done()
	return ctx.Err()
}
func (silent) Shutdown(context.Context) error { return nil }

func TestACollectorThatIsSilentDelaysTheEndByThreeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(silent{}))
		_, span := provider.Tracer("test").Start(t.Context(), "last")
		span.End()
		ended, cancel := context.WithCancel(t.Context())
		cancel() // as the scaler was told to end
		begun := time.Now()
		flush(ended, provider, zap.NewNop())
		if took := time.Since(begun); took != traceFlush {
			t.Errorf("the end took %v, want %v", took, traceFlush)
		}
		time.Sleep(time.Minute) // until the exporter's own timeout has ended its call
	})
}

func TestWithoutTheVariablesNothingIsTraced(t *testing.T) {
	settings := controlplane.Config{Logger: zap.NewNop()}
	for name, c := range map[string]struct {
		variables map[string]string
		traced    bool
	}{
		"none":     {nil, false},
		"disabled": {map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, false},
		"console":  {map[string]string{"OTEL_TRACES_EXPORTER": "console"}, true},
	} {
		settings.Traces = nil
		end, err := sendTraces(t.Context(), config{lookup: func(name string) (string, bool) { value, ok := c.variables[name]; return value, ok }}, &settings)
		if err != nil {
			t.Fatal(err)
		}
		end()
		if traced := settings.Traces != nil; traced != c.traced {
			t.Errorf("%s: traced %v, want %v", name, traced, c.traced)
		}
	}
}
