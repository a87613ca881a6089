package registrar

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestHowLongACrashingGroupWaits(t *testing.T) {
	for crashes, want := range map[int]time.Duration{
		0: 0, 2: 0, 3: 10 * time.Second, 4: 20 * time.Second, 8: 320 * time.Second, 9: 10 * time.Minute, 1000: 10 * time.Minute,
	} {
		if got := delay(crashes); got != want {
			t.Errorf("after %d crashes: got %v, want %v", crashes, got, want)
		}
	}
}

func TestACrashingGroupTriesOneRunnerPerDelay(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	c := newCrashLoops(clk)
	group := &fleet.GroupSnapshot{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "builds"}, Generation: "1"}
	other := &fleet.GroupSnapshot{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "other"}}
	tried := 0
	for range 3600 { // seconds, in each of which five pods ask
		clk.Step(time.Second)
		for range 5 {
			if c.admit(other) != nil {
				t.Fatal("another group waits")
			}
			if c.admit(group) == nil {
				tried++
				_ = c.ended(group, time.Second, false)
			}
		}
	}
	// 2 at once, then after 10, 20, … 320 s, then every 10 min.
	if tried < 10 || tried > 16 {
		t.Errorf("%d runners were registered in an hour of crashes, want about 14", tried)
	}
}

func TestWhatEndsACrashLoop(t *testing.T) {
	for name, end := range map[string]func(*crashLoops, *fleet.GroupSnapshot, *clocktesting.FakeClock){
		"another form of its ScaledJob": func(_ *crashLoops, g *fleet.GroupSnapshot, _ *clocktesting.FakeClock) { g.Generation = "2" },
		"a runner that took a step": func(c *crashLoops, g *fleet.GroupSnapshot, _ *clocktesting.FakeClock) {
			_ = c.ended(g, time.Second, true)
		},
		"a runner that lived for long": func(c *crashLoops, g *fleet.GroupSnapshot, _ *clocktesting.FakeClock) {
			_ = c.ended(g, crashAge, false)
		},
		"a runner that works": func(_ *crashLoops, g *fleet.GroupSnapshot, _ *clocktesting.FakeClock) {
			g.Members = []fleet.Member{{Runner: &bitbucket.Runner{}, State: fleet.Busy, Used: true}}
		},
		"an hour without news": func(_ *crashLoops, _ *fleet.GroupSnapshot, clk *clocktesting.FakeClock) { clk.Step(crashMemory + 1) },
	} {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakeClock(time.Now())
			c := newCrashLoops(clk)
			group := &fleet.GroupSnapshot{Generation: "1"}
			for range 10 {
				_ = c.ended(group, time.Second, false)
			}
			if c.admit(group) == nil {
				t.Fatal("a group whose runners crash does not wait")
			}
			end(c, group, clk)
			for range 5 {
				if err := c.admit(group); err != nil {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func TestRunnersThatEndAtOnceHaveTheirGroupWait(t *testing.T) {
	r, w := start(t, func(w *world) { w.rechecked = bitbucket.Runner{UUID: "{r}"} })
	life := func() error {
		_, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{})
		if err == nil {
			if _, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{}); err != nil {
				t.Fatal(err)
			}
			delete(w.stopping, "pod-uid") // the next pod
		}
		return err
	}
	for range crashesAllowed + 1 {
		if err := life(); err != nil {
			t.Fatal(err)
		}
	}
	did := len(w.did)
	err := life()
	var wait time.Duration
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait = info.GetRetryDelay().AsDuration()
		}
	}
	if status.Code(err) != codes.ResourceExhausted || wait < 9*time.Second || wait > firstDelay || len(w.did) != did {
		t.Errorf("got %v after %v, did %v", err, wait, w.did[did:])
	}
	if w.counted[len(w.counted)-1] != "crash_loop" || !slices.Equal(w.events, []string{"CrashLoop"}) {
		t.Errorf("counted %v, events %v", w.counted, w.events)
	}
}

func TestARunnerThatWasToldToEndHasNotCrashed(t *testing.T) {
	r, w := start(t, func(w *world) { w.rechecked = bitbucket.Runner{UUID: "{r}"} })
	for range 10 {
		if _, err := r.Register(with(t.Context(), "good"), &runnerv1.RegisterRequest{}); err != nil {
			t.Fatal(err)
		}
		w.stopping["pod-uid"] = true // by the reaper
		if _, err := r.Deregister(with(t.Context(), "good"), &runnerv1.DeregisterRequest{}); err != nil {
			t.Fatal(err)
		}
		delete(w.stopping, "pod-uid")
	}
	var loop *crashLoopError
	if err := r.crashes.admit(w.group); errors.As(error(err), &loop) && err != nil {
		t.Errorf("got %v", err)
	}
}
