package traces

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap/zaptest"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/trace/otlp"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

const patience = 2 * time.Minute

// span is one that the receiver got, with the attributes of its resource.
type span struct {
	ptrace.Span
	resource pcommon.Map
}

// value returns an attribute as text.
func value(attributes pcommon.Map, key string) string {
	found, ok := attributes.Get(key)
	if !ok {
		return ""
	}
	return found.AsString()
}

// received returns the spans so far whose names begin with a prefix.
func received(sink *consumertest.TracesSink, prefix string) (spans []span) {
	for _, batch := range sink.AllTraces() {
		for _, resource := range batch.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					if strings.HasPrefix(s.Name(), prefix) {
						spans = append(spans, span{s, resource.Resource().Attributes()})
					}
				}
			}
		}
	}
	return spans
}

// receive starts the collector's OTLP receiver for a protocol, and returns its address.
func receive(t *testing.T, protocol string) (address string, sink *consumertest.TracesSink) {
	t.Helper()
	var listen net.ListenConfig
	free, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0") // the receiver does not report which port it got
	if err != nil {
		t.Fatal(err)
	}
	address = free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	settings := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{protocol: map[string]any{"endpoint": address}}})
	if err := settings.Unmarshal(config); err != nil {
		t.Fatal(err)
	}
	sink = &consumertest.TracesSink{}
	receiver, err := factory.CreateTraces(t.Context(), receivertest.NewNopSettings(component.MustNewType("otlp")), config, sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := receiver.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return address, sink
}

// programs builds the sidecar and the stand-in runner.
func programs(t *testing.T, dir string) testbed.Binaries {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "./cmd/sidecar", "./cmd/bitbucket-emulator")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v: %s", err, out)
	}
	return testbed.Binaries{Sidecar: filepath.Join(dir, "sidecar"), Runner: []string{filepath.Join(dir, "bitbucket-emulator"), "runner"}}
}

// until waits for a condition.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline, ticker := time.After(patience), time.NewTicker(100*time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("waited for %s", what)
		case <-ticker.C:
		}
	}
}

// play runs one step on a runner of a test bed, and ends everything.
func play(t *testing.T, settings controlplane.Config, sink *consumertest.TracesSink) {
	t.Helper()
	dir, err := os.MkdirTemp("", "brs-") // short: it is part of a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	settings.PollInterval, settings.MaxStaleness, settings.WriteSettle, settings.OrphanGrace = time.Second, time.Minute, time.Second, time.Second
	settings.ReaperInterval, settings.StepAssignDelay = 200*time.Millisecond, time.Second
	bed, err := testbed.Start(t.Context(), testbed.Config{
		Dir: dir, Binaries: programs(t, dir), Emulator: emulator.Options{AssignLag: 200 * time.Millisecond}, ControlPlane: settings,
		KEDAInterval: 500 * time.Millisecond, Logger: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	end := func() {
		if !closed {
			closed = true
			if err := bed.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	defer end()
	group := bed.Apply(fleet.GroupKey{Namespace: "ns", Name: "builds"}, map[string]string{"workspace": "acme", "labels": "builds", "min": "1", "max": "1"})
	until(t, "the runner", func() bool {
		state, err := bed.Control.State(t.Context())
		return err == nil && len(state.Runners) == 1 && state.Runners[0].Status == "ONLINE"
	})
	if _, err := bed.Control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux", "builds"}, Duration: "2s", Count: 1}); err != nil {
		t.Fatal(err)
	}
	until(t, "the step's span", func() bool { return len(received(sink, "step")) == 1 })
	bed.Delete(group.UID)
	until(t, "the runner's span", func() bool { return len(received(sink, "runner")) == 1 })
	end()
}

func TestACollectorReceivesTheTraceOfARunner(t *testing.T) {
	for receiver, protocol := range map[string]string{"grpc": "grpc", "http": "http/protobuf"} {
		t.Run(receiver, func(t *testing.T) {
			address, sink := receive(t, receiver)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+address)
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
			wanted, faults := otlp.Read(os.LookupEnv)
			if len(faults) > 0 || !wanted.On() {
				t.Fatalf("got %+v, %v", wanted, faults)
			}
			provider, err := wanted.NewProvider(t.Context(), otlp.Service{Version: "test", Instance: "scaler-1"}, os.Stdout)
			if err != nil {
				t.Fatal(err)
			}
			play(t, controlplane.Config{Traces: provider}, sink)
			if err := provider.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			check(t, sink)
		})
	}
}

// check looks at the spans of one runner that ran one step.
func check(t *testing.T, sink *consumertest.TracesSink) {
	t.Helper()
	root, step := received(sink, "runner")[0], received(sink, "step")[0]
	for _, name := range []string{"create pod", "schedule", "start sidecar", "register", "pull image", "connect", "step", "delete"} {
		found := received(sink, name)
		if len(found) != 1 || found[0].TraceID() != root.TraceID() || found[0].ParentSpanID() != root.SpanID() {
			t.Errorf("%d spans %q, want one of the runner's trace", len(found), name)
		}
	}
	if took := step.EndTimestamp().AsTime().Sub(step.StartTimestamp().AsTime()); took < time.Second || took > time.Minute {
		t.Errorf("the step took %v, want about 2 s", took)
	}
	for _, key := range []string{"cicd.pipeline.run.id", "cicd.pipeline.task.run.id", "cicd.worker.id"} {
		if value(step.Attributes(), key) == "" {
			t.Errorf("the step has no %s", key)
		}
	}
	if got := value(step.Attributes(), "cicd.pipeline.task.run.result"); got != "success" {
		t.Errorf("the step has the result %q", got)
	}
	for key, want := range map[string]string{"service.name": "bitbucket-runner-scaler", "service.version": "test", "service.instance.id": "scaler-1"} {
		if got := value(root.resource, key); got != want {
			t.Errorf("the resource has %s %q, want %q", key, got, want)
		}
	}
	calls := received(sink, "externalscaler.ExternalScaler/GetMetrics")
	if root.Links().Len() != 1 || !slices.ContainsFunc(calls, func(s span) bool { return s.SpanID() == root.Links().At(0).SpanID() }) {
		t.Errorf("the runner has %d links, want one to a call of %d", root.Links().Len(), len(calls))
	}
}
