package main

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"

	"bitbucket-runner-scaler/e2e/bench/bed"
	"bitbucket-runner-scaler/e2e/bench/document"
	"bitbucket-runner-scaler/e2e/installation"
)

// stuck answers the first call after a second, and each call after it at once, one at a time.
type stuck struct {
	pb.ExternalScalerClient
	server chan struct{}
	first  bool
}

func (s *stuck) GetMetrics(context.Context, *pb.GetMetricsRequest, ...grpc.CallOption) (*pb.GetMetricsResponse, error) {
	s.server <- struct{}{}
	defer func() { <-s.server }()
	if !s.first {
		s.first = true
		time.Sleep(time.Second)
	}
	return &pb.GetMetricsResponse{}, nil
}

// A server that is stuck for a second delays a hundred calls that are due meanwhile. One who waits for
// each answer before the next call would see one slow call.
func TestTheOpenLoopCountsTheCallsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, err := openLoop(t.Context(), &stuck{server: make(chan struct{}, 1)}, []bed.Group{{}}, 100, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		slow := 0
		for _, d := range took {
			if d >= 100*time.Millisecond {
				slow++
			}
		}
		if len(took) != 200 || slow < 90 || took.at(100) != time.Second {
			t.Errorf("%d calls, %d of them slow, the slowest %v; want 200, about 90 and 1 s", len(took), slow, took.at(100))
		}
	})
}

func TestAGoalThatIsMissedSaysByHowMuch(t *testing.T) {
	met, missed := goal("memory", 60, 64, "%.0f MiB", "", "why"), goal("memory", 96, 64, "%.0f MiB", "", "Why.")
	if met.Missed != "" || met.Goal != "64 MiB" || missed.Missed != "96 MiB instead of 64 MiB, 50 % more. Why." {
		t.Errorf("got %+v and %+v", met, missed)
	}
	if row := ratio("call", 3*time.Millisecond, 2*time.Millisecond, 1.1); !strings.HasPrefix(row.Missed, "1.50 times") || row.Measured != "3.000 ms, 1.50 times the reference" {
		t.Errorf("got %+v", row)
	}
}

func TestWhatTestsReportBecomesRows(t *testing.T) {
	found, err := attributesOf(strings.NewReader(`not JSON
{"Action":"output","Output":"x"}
{"Action":"attr","Test":"TestLongReaction","Key":"reaction-webhook-5s-p50","Value":"3.1s"}
{"Action":"attr","Test":"TestLongReaction","Key":"reaction-webhook-5s-p95","Value":"7s"}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := document.Row{What: "webhook: p95", Goal: "6 s", Reference: "p50: 3.1s", Measured: "7s", Missed: "7s instead of 6 s."}
	if got := found.reaction("webhook", "6 s", "webhook-5s"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := found.reaction("polls", "-", "polls-alone-5s").Measured; got != "not measured" {
		t.Errorf("got %q for what no test reported", got)
	}
}

func TestWhatWasNotMeasuredMissesItsGoal(t *testing.T) {
	for name, row := range map[string]document.Row{
		"a figure of zero":    goal("memory", 0, 64, "%.0f MiB", "", ""),
		"no number":           goal("memory", math.NaN(), 64, "%.0f MiB", "", ""),
		"nothing reported":    attributes{}.row("calls", "60", "", "calls"),
		"too many":            attributes{"calls": "61 per hour"}.atMost("calls", "60 per hour", "", "calls", 60),
		"no number of calls":  attributes{"calls": "many"}.atMost("calls", "60 per hour", "", "calls", 60),
		"no number, and none": attributes{}.atMost("calls", "60 per hour", "", "calls", 60),
	} {
		if row.Missed == "" {
			t.Errorf("%s: %+v", name, row)
		}
	}
	if row := (attributes{"calls": "60 per hour"}).atMost("calls", "60 per hour", "", "calls", 60); row.Missed != "" {
		t.Errorf("%+v", row)
	}
}

func TestWrongPartsAreRefused(t *testing.T) {
	var out strings.Builder
	if err := command(t.Context(), []string{"-only", "everything"}, &out); err == nil || !strings.Contains(err.Error(), `"everything", want calls, fleet`) {
		t.Errorf("got %v", err)
	}
}

// The bed is the real scaler, so that this is a test of it too: groups, sidecars that register and attach
// over TLS, and one that reports. Nothing is timed.
func TestTheBedRunsTheScaler(t *testing.T) {
	r := &run{out: &strings.Builder{}, dir: t.TempDir()}
	var err error
	if r.root, err = installation.Root(); err != nil {
		t.Fatal(err)
	}
	if err := r.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := r.bed(t.Context(), "bed", 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := b.Grow(ctx, 11); err != nil {
		t.Fatal(err, r.logs())
	}
	probe, err := b.AddProbe(ctx)
	if err != nil {
		t.Fatal(err, r.logs())
	}
	r.quick = true
	if seen, err := r.reported(ctx, b, probe); err != nil || len(seen) == 0 || !slices.IsSorted(seen) {
		t.Errorf("%v, %v", seen, err)
	}
	if _, err := r.storm(ctx, b); err != nil {
		t.Error(err, r.logs())
	}
	if n := b.Deleted(); n > 0 {
		t.Errorf("%d Jobs were deleted", n)
	}
}
