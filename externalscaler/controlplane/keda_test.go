package controlplane_test

import (
	"context"
	"strings"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/externalscaler/fleet"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestMetricIsTheDesiredTotal(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	p.until("the metric to be min", func() bool { n, err := p.metric(p.group); return err == nil && n == 1 })
	d := p.pod(p.group).online()
	p.until("it to be idle", func() bool { return p.shown("builds").Runners["idle"] == 1 })
	d.report(runnerv1.RunnerState_RUNNER_STATE_BUSY, aStep)
	p.until("the metric to be ceil(1 x 1.5)", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	active, err := p.keda.IsActive(t.Context(), ref(p.group))
	if err != nil || !active.GetResult() {
		t.Errorf("active %v, %v", active.GetResult(), err)
	}
}

func TestSpecificationIsAlwaysOneMetricWithTargetOne(t *testing.T) {
	p := start(t, quick(), nil)
	for name, ref := range map[string]*pb.ScaledObjectRef{"valid": ref(p.group), "empty": {}, "faulty": {Name: "x", ScalerMetadata: map[string]string{"min": "NaN"}}} {
		spec, err := p.keda.GetMetricSpec(t.Context(), ref)
		if err != nil || len(spec.GetMetricSpecs()) != 1 || spec.GetMetricSpecs()[0].GetTargetSizeFloat() != 1 {
			t.Errorf("%s: got %v, %v", name, spec, err)
		}
	}
	stream, err := p.keda.StreamMetricSpec(t.Context(), ref(p.group))
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("StreamMetricSpec: got %v", err)
	}
}

func TestFaultsAreReportedByGetMetrics(t *testing.T) {
	p := start(t, quick(), nil)
	faulty := p.apply("faulty", map[string]string{"labels": "Big", "min": "9", "max": "3", "colour": "red"})
	wrong := fleet.ScaledJob{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "absent"}, Metadata: map[string]string{"workspace": "acme", "labels": "x"}}
	other := p.group
	other.Metadata = map[string]string{"workspace": "acme", "labels": "builds", "max": "99"}
	twin := p.apply("twin", map[string]string{"labels": "builds"})
	strange := p.apply("strange", map[string]string{"credentials": "nobodys", "labels": "strange"})
	huge := p.group
	huge.Metadata = map[string]string{"workspace": "acme", "labels": strings.Repeat("a", 10<<20)}
	for name, c := range map[string]struct {
		group fleet.ScaledJob
		code  codes.Code
		says  []string
	}{
		"all faults at once":    {faulty, codes.InvalidArgument, []string{`labels: "Big"`, `min: "9"`, "colour: unknown key"}},
		"no ScaledJob":          {wrong, codes.NotFound, []string{"no ScaledJob of that name"}},
		"other metadata":        {other, codes.NotFound, []string{"carries this metadata"}},
		"the younger duplicate": {twin, codes.InvalidArgument, []string{"ns/builds"}},
		"unknown credentials":   {strange, codes.FailedPrecondition, []string{`credentials: "nobodys"`}},
		"ten megabytes":         {huge, codes.ResourceExhausted, nil},
		"sixty-five kilobytes":  {fleet.ScaledJob{GroupKey: p.group.GroupKey, Metadata: map[string]string{"labels": strings.Repeat("a", 65<<10)}}, codes.InvalidArgument, []string{"at most 65536"}},
		"an empty reference":    {fleet.ScaledJob{}, codes.InvalidArgument, []string{"workspace: missing", "labels: missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.metric(c.group)
			if status.Code(err) != c.code {
				t.Errorf("got %.500v, want %s", err, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %.500v, want it to contain %q", err, want)
				}
			}
			_, err = p.keda.IsActive(t.Context(), ref(c.group))
			if status.Code(err) != c.code {
				t.Errorf("IsActive: got %.500v, want %s", err, c.code)
			}
		})
	}
	p.until("the valid group to be answered still", func() bool { n, err := p.metric(p.group); return err == nil && n == 1 })
}

func TestStreamSendsTheCurrentActivityAndEachChange(t *testing.T) {
	p := start(t, quick(), nil)
	fixed := p.apply("fixed", map[string]string{"strategy": "fixed", "count": "0"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := p.keda.StreamIsActive(ctx, ref(fixed))
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || first.GetResult() {
		t.Fatalf("got %v, %v, want inactive at once", first, err)
	}
	stream, err = p.keda.StreamIsActive(ctx, ref(p.group))
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || !first.GetResult() {
		t.Fatalf("got %v, %v, want active at once", first, err)
	}
}

func TestBeforeTheFirstListCallsFailWithinTheTimeout(t *testing.T) {
	config := quick()
	p := start(t, config, map[string]string{"workspace": "unknown"})
	p.until("Bitbucket's refusal to be reported", func() bool {
		begun := time.Now()
		_, err := p.metric(p.group)
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("the call took %v", took)
		}
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "unknown")
	})
}
