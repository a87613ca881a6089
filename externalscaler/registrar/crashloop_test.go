package registrar

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
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

// What a pod says about itself is shown to people: nothing of it is believed to be short
// or printable.
func TestHowARunnerEndedIsTakenFromItsSidecar(t *testing.T) {
	for name, c := range map[string]struct {
		request *runnerv1.DeregisterRequest
		want    crashloop.End
	}{
		"an old sidecar":        {&runnerv1.DeregisterRequest{}, crashloop.End{}},
		"an exit code":          {&runnerv1.DeregisterRequest{ExitCode: proto.Int32(3), LastLine: "no"}, crashloop.End{Cause: fleet.Cause{Reason: "Error", Message: "container runner: exit code 3"}, LastLine: "no"}},
		"success":               {&runnerv1.DeregisterRequest{ExitCode: proto.Int32(0)}, crashloop.End{Cause: fleet.Cause{Reason: "Completed", Message: "container runner: exit code 0"}}},
		"killed, who knows why": {&runnerv1.DeregisterRequest{ExitCode: proto.Int32(137)}, crashloop.End{}},
		"a long and foul line":  {&runnerv1.DeregisterRequest{LastLine: "a\x1b\n" + strings.Repeat("b", 1000)}, crashloop.End{LastLine: "a" + strings.Repeat("b", maxLastLine-3)}},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := start(t, func(w *world) { w.rechecked = bitbucket.Runner{UUID: "{r}"} })
			if _, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{}); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Deregister(with(t.Context(), "good"), c.request); err != nil {
				t.Fatal(err)
			}
			if len(w.ended) != 1 || w.ended[0].Cause != c.want.Cause || w.ended[0].LastLine != c.want.LastLine {
				t.Errorf("got %+v, want %+v", w.ended, c.want)
			}
		})
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

func TestTheLifeOfARunnerBeginsWhenItIsOnline(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, time.Time)
		want   time.Duration
	}{
		"it was never online": {func(*world, time.Time) {}, 0},
		"it was online for a minute": {func(w *world, registered time.Time) {
			w.group.Members[0].Telemetry.OnlineSince = registered.Add(9 * time.Minute)
		}, time.Minute},
		"its lines are not understood": {func(w *world, _ time.Time) { w.group.Members[0].Telemetry.Unrecognized = true }, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakePassiveClock(time.Now())
			r, w := start(t, func(w *world) { w.rechecked = bitbucket.Runner{UUID: "{r}"} })
			r.config.Clock = clk
			registered := clk.Now()
			if _, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{}); err != nil {
				t.Fatal(err)
			}
			c.change(w, registered)
			clk.SetTime(registered.Add(10 * time.Minute)) // of which the image took most to be pulled
			if _, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{}); err != nil {
				t.Fatal(err)
			}
			if len(w.ended) != 1 || w.ended[0].Lived != c.want {
				t.Errorf("got %+v, want a life of %v", w.ended, c.want)
			}
		})
	}
}

func TestADeferredRegistrationIsLoggedWhenItsOutcomeChanges(t *testing.T) {
	core, logged := observer.New(zapcore.InfoLevel)
	clk := clocktesting.NewFakePassiveClock(time.Now())
	r, w := start(t, func(w *world) { w.wait = time.Minute })
	r.log, r.config.Clock = zap.New(core), clk
	ask := func() { _, _ = r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{}) } // it waits
	for range 100 {
		ask()
		clk.SetTime(clk.Now().Add(5 * time.Second))
	}
	if logged.Len() != 1 {
		t.Errorf("%d lines in 500 s, want 1", logged.Len())
	}
	w.wait, w.registered = 0, []error{bitbucket.ErrUnavailable}
	ask()
	clk.SetTime(clk.Now().Add(sayAgain))
	w.registered = []error{bitbucket.ErrUnavailable}
	ask()
	if logged.Len() != 3 {
		t.Errorf("%d lines, want one for the change and one after %v", logged.Len(), sayAgain)
	}
}
