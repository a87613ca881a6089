package controlplane_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/trace"
)

// traced makes a world's control plane trace its runners into an exporter in memory.
func traced(spans *tracetest.InMemoryExporter) func(*world) {
	return func(w *world) {
		w.config.Traces = trace.NewProvider(sdktrace.WithSyncer(spans))
		w.polling = 5 * time.Second
	}
}

// named returns the spans of this name, in the order in which they began.
func named(spans *tracetest.InMemoryExporter, name string) tracetest.SpanStubs {
	found := slices.DeleteFunc(spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Name != name })
	slices.SortFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return found
}

// firstOf returns the first span of this name. There must be one.
func (w *world) firstOf(spans *tracetest.InMemoryExporter, name string) (span tracetest.SpanStub) {
	w.t.Helper()
	found := named(spans, name)
	if len(found) == 0 {
		w.t.Errorf("there is no span %q", name)
		return span
	}
	return found[0]
}

// value returns an attribute of a span as text; empty if it has none of that name.
func value(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == attribute.Key(key) {
			return kv.Value.String()
		}
	}
	return ""
}

// children are the spans of a runner in the order in which they began, with their lengths in
// seconds.
func children(spans *tracetest.InMemoryExporter, root tracetest.SpanStub) (all []string) {
	found := slices.DeleteFunc(spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Parent.SpanID() != root.SpanContext.SpanID() })
	slices.SortStableFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	for _, s := range found {
		all = append(all, fmt.Sprintf("%s %d", s.Name, int(s.EndTime.Sub(s.StartTime).Round(time.Second).Seconds())))
	}
	return all
}

const oneStep = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, fleet], script: [sleep 120]}
`

// ended waits until a runner has ended, and returns its root span.
func (w *world) ended(spans *tracetest.InMemoryExporter) (root tracetest.SpanStub) {
	w.t.Helper()
	for range 60 {
		if roots := named(spans, "runner"); len(roots) > 0 {
			return roots[0]
		}
		sleep(w.ctx, time.Minute)
	}
	w.t.Error("no runner has ended within an hour")
	return root
}

func TestATraceShowsTheLifeOfARunner(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(map[string]string{"ephemeral": "true", "spare": "0"}), works)
		w.after(5 * time.Minute)
		w.push("w0", oneStep)
		root := w.ended(spans)
		got := children(spans, root)
		for i, s := range got { // the end waits for the next list of Bitbucket
			if strings.HasPrefix(s, "drain") {
				got[i] = "drain"
			}
		}
		if diff := cmp.Diff([]string{
			"create pod 0", "schedule 0", "start sidecar 3", "register 0", "pull image 0", "connect 20", "step Build 120", "drain", "delete 0",
		}, got); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
		step := w.firstOf(spans, "step Build")
		shown := w.server.State().Steps[0]
		for key, want := range map[string]string{
			"cicd.pipeline.task.run.id": shown.UUID, "cicd.pipeline.run.id": shown.PipelineUUID, "cicd.pipeline.task.name": "Build", "cicd.pipeline.task.run.result": "success",
			"bitbucket.build.number": "1", "vcs.repository.name": "app", "cicd.worker.id": value(root, "cicd.worker.id"),
		} {
			if got := value(step, key); got != want || got == "" {
				t.Errorf("the step has %s %q, want %q", key, got, want)
			}
		}
		for key, want := range map[string]string{
			"bitbucket.runner_group.name": "ns/fleet", "bitbucket.runner.steps": "1", "k8s.namespace.name": "ns", "k8s.node.name": "node", "bitbucket.trace.incomplete": "",
		} {
			if got := value(root, key); got != want {
				t.Errorf("the runner has %s %q, want %q", key, got, want)
			}
		}
		if root.Status.Code == codes.Error {
			t.Errorf("the runner has the status %v", root.Status)
		}
	}, traced(spans))
}

func TestATraceShowsThatARunnerWasRetired(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(nil), works)
		w.after(5 * time.Minute)
		w.queue("w0", "fleet", 2, 2*time.Minute)
		root := w.ended(spans)
		got := children(spans, root)
		for _, want := range []string{"connect", "step", "drain", "delete"} {
			if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !strings.HasPrefix(s, want) })); n != 1 {
				t.Errorf("got %q, want one %q", got, want)
			}
		}
	}, traced(spans))
}

func TestARunnerIsLinkedToTheCallThatAskedForIt(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(map[string]string{"ephemeral": "true", "spare": "0"}), works)
		w.after(5 * time.Minute)
		w.push("w0", oneStep)
		root := w.ended(spans)
		calls := named(spans, "externalscaler.ExternalScaler/GetMetrics")
		at := slices.IndexFunc(calls, func(s tracetest.SpanStub) bool {
			return len(root.Links) == 1 && s.SpanContext.SpanID() == root.Links[0].SpanContext.SpanID()
		})
		if at < 0 {
			t.Errorf("the runner has the links %v, want one of %d calls of GetMetrics", root.Links, len(calls))
			return
		}
		asked, next := calls[at], calls[at+1]
		if asked.StartTime.After(root.StartTime) || !next.StartTime.After(root.StartTime) || value(asked, "bitbucket.decision.target") != "1" {
			t.Errorf("it names a call at %v with the target %s, want the last one before %v", asked.StartTime, value(asked, "bitbucket.decision.target"), root.StartTime)
		}
		if asked.SpanKind != oteltrace.SpanKindServer || value(asked, "bitbucket.runner_group.name") != "ns/fleet" {
			t.Errorf("the call is a %v span of %q", asked.SpanKind, value(asked, "bitbucket.runner_group.name"))
		}
		if len(root.Events) == 0 || root.Events[0].Name != "decision" {
			t.Errorf("the runner has the events %v, want the decision first", root.Events)
		}
		for _, s := range spans.GetSpans() {
			if strings.Contains(s.Name, "RunnerService") || strings.Contains(s.Name, "Health") {
				t.Errorf("there is a span %s of a call that is not KEDA's", s.Name)
			}
		}
	}, traced(spans))
}

func TestANewLeaderContinuesTheTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(map[string]string{"ephemeral": "true", "spare": "0"}), works)
		w.after(5 * time.Minute)
		w.push("w0", strings.Replace(oneStep, "120", "600", 1))
		w.after(8 * time.Minute)
		if got := len(named(spans, "connect")); got != 1 {
			t.Errorf("the first leader exported the start of %d runners, want 1", got)
		}
		w.restart()
		root := w.ended(spans)
		step := w.firstOf(spans, "step Build")
		if got := children(spans, root); len(got) != 9 || w.firstOf(spans, "connect").SpanContext.TraceID() != root.SpanContext.TraceID() {
			t.Errorf("the runner has the spans %q, want those that the first leader exported, once, the step and the end", got)
		}
		if value(root, "bitbucket.trace.incomplete") != "true" || value(step, "bitbucket.step.begin_unseen") != "true" {
			t.Error("it is not marked that the second leader did not see the begin of the runner and of its step")
		}
		if took := step.EndTime.Sub(step.StartTime); took > 8*time.Minute {
			t.Errorf("the second leader claims to have seen the step for %v", took)
		}
	}, traced(spans))
}

// neverStarts is the life of a pod whose image cannot be pulled.
func neverStarts(p *virtualPod) {
	cause := fleet.Cause{Reason: "ImagePullBackOff", Message: "container runner: Back-off", CannotStart: true}
	p.w.cluster.Wait(p.job.UID, cause)
	sleep(p.ctx, 2*time.Minute)
	p.w.cluster.FailJob(p.job.UID, cause)
}

func TestATraceShowsWhereAStartFailed(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", map[string]string{"min": "1", "max": "1"}, neverStarts)
		root := w.ended(spans)
		if diff := cmp.Diff([]string{"create pod 0", "schedule 0", "start sidecar 3", "register 120"}, children(spans, root)); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
		if root.Status.Code != codes.Error || !strings.Contains(root.Status.Description, "ImagePullBackOff") {
			t.Errorf("the runner has the status %v", root.Status)
		}
		if !slices.ContainsFunc(root.Events, func(e sdktrace.Event) bool { return e.Name == "waits" }) {
			t.Errorf("the runner has the events %v, want what it waited for", root.Events)
		}
	}, traced(spans))
}
