package otlp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestWhatTheVariablesSay(t *testing.T) {
	for name, c := range map[string]struct {
		variables map[string]string
		want      Settings
	}{
		"nothing":                             {nil, Settings{Protocol: "http/protobuf"}},
		"a protocol alone turns nothing on":   {map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, Settings{Protocol: "grpc"}},
		"an endpoint":                         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, Settings{"otlp", "http/protobuf"}},
		"an endpoint of traces":               {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, Settings{"otlp", "http/protobuf"}},
		"the exporter alone":                  {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, Settings{"otlp", "http/protobuf"}},
		"the console":                         {map[string]string{"OTEL_TRACES_EXPORTER": "console"}, Settings{"console", "http/protobuf"}},
		"none despite an endpoint":            {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, Settings{Protocol: "http/protobuf"}},
		"gRPC":                                {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, Settings{"otlp", "grpc"}},
		"the protocol of traces wins":         {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, Settings{"otlp", "grpc"}},
		"everything is disabled":              {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, Settings{}},
		"an empty variable is as one not set": {map[string]string{"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}, Settings{Protocol: "http/protobuf"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, faults := Read(func(name string) (string, bool) { value, ok := c.variables[name]; return value, ok })
			if got != c.want || len(faults) > 0 {
				t.Errorf("got %+v, %v, want %+v", got, faults, c.want)
			}
			if on := c.want.Exporter != ""; got.On() != on {
				t.Errorf("traces are on: %v, want %v", got.On(), on)
			}
		})
	}
}

func TestFaultsNameTheVariableAndWhatItAccepts(t *testing.T) {
	_, faults := Read(func(name string) (string, bool) {
		value, ok := map[string]string{"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}[name]
		return value, ok
	})
	all := errors.Join(faults...)
	for _, want := range []string{`OTEL_TRACES_EXPORTER: "zipkin", want otlp, console or none`, `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json", want grpc or http/protobuf`} {
		if all == nil || !strings.Contains(all.Error(), want) {
			t.Errorf("got %v, want %s", all, want)
		}
	}
}

func TestEachSpanSaysWhichReplicaSentIt(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=other")
	var console bytes.Buffer
	provider, err := Settings{Exporter: "console"}.NewProvider(t.Context(), Service{Version: "v1.2.3", Instance: "scaler-1"}, &console)
	if err != nil {
		t.Fatal(err)
	}
	_, span := provider.Tracer("test").Start(t.Context(), "something")
	span.End()
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"something"`, `"bitbucket-runner-scaler"`, `"scaler-1"`, `"deployment.environment.name"`, `"other"`} {
		if !strings.Contains(console.String(), want) {
			t.Errorf("the console has not %s:\n%s", want, console.String())
		}
	}
	if strings.Contains(console.String(), "v1.2.3") {
		t.Error("OTEL_RESOURCE_ATTRIBUTES does not win")
	}
}

func TestErrorsAreLoggedOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, seen := observer.New(zapcore.WarnLevel)
		log := newErrorLog(zap.New(core))
		for range 12 { // as often as batches are sent
			log.Handle(errors.New("connection refused"))
			time.Sleep(5 * time.Second)
		}
		if seen.Len() != 1 {
			t.Errorf("%d lines within a minute, want 1", seen.Len())
		}
		log.Handle(errors.New("connection refused"))
		if seen.Len() != 2 {
			t.Errorf("%d lines after a minute, want 2", seen.Len())
		}
	})
}
