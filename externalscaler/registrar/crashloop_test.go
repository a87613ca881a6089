package registrar

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestAJobOfAFailingGroupWaits(t *testing.T) {
	r, w := start(t, func(w *world) { w.wait = 40 * time.Second })
	_, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{})
	var wait time.Duration
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait = info.GetRetryDelay().AsDuration()
		}
	}
	if status.Code(err) != codes.ResourceExhausted || wait != w.wait || len(w.did) != 0 {
		t.Errorf("got %v after %v, did %v", err, wait, w.did)
	}
	if w.counted[len(w.counted)-1] != "crash_loop" {
		t.Errorf("counted %v", w.counted)
	}
}

func TestTheEndOfARunnerIsNoted(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*world)
		want   int
	}{
		"it ended by itself":        {func(*world) {}, 1},
		"it was told to end":        {func(w *world) { w.stopping["pod-uid"] = true }, 0},
		"its pod is being deleted":  {func(w *world) { w.group.Members[0].Pod.Deleting = true }, 0},
		"it belongs to no group":    {func(w *world) { w.group.Members = nil }, 0},
		"it began a step by report": {func(w *world) { w.group.Members[0].Telemetry.StepsBegun = 1 }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := start(t, func(w *world) { w.rechecked = bitbucket.Runner{UUID: "{r}"} })
			if _, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{}); err != nil {
				t.Fatal(err)
			}
			c.before(w)
			if _, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{}); err != nil {
				t.Fatal(err)
			}
			if len(w.ended) != c.want {
				t.Fatalf("got %+v", w.ended)
			}
			if c.want == 1 && (w.ended[0].Job == nil || w.ended[0].TookStep != (name == "it began a step by report")) {
				t.Errorf("got %+v", w.ended[0])
			}
		})
	}
}
