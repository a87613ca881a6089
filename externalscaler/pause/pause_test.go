package pause_test

import (
	"context"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/externalscaler/pause"
)

func TestAPauseEndsWithItsTimeItsWakeOrItsContext(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan struct{})
	close(closed)
	for name, c := range map[string]struct {
		ctx  context.Context
		d    time.Duration
		wake <-chan struct{}
		want bool
	}{
		"no time at all":                 {t.Context(), 0, nil, true},
		"no time, and the context ended": {ended, -time.Second, nil, false},
		"a moment":                       {t.Context(), time.Millisecond, nil, true},
		"woken":                          {t.Context(), time.Hour, closed, true},
		"the context ended":              {ended, time.Hour, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pause.For(c.ctx, clock.RealClock{}, c.d, c.wake); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestAPauseLastsOnTheGivenClock(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	done := make(chan bool, 1)
	go func() { done <- pause.For(t.Context(), clk, time.Hour, nil) }()
	for !clk.HasWaiters() {
		if t.Context().Err() != nil {
			t.Fatal("the pause never began")
		}
	}
	clk.Step(time.Hour - time.Second)
	select {
	case <-done:
		t.Fatal("the pause ended a second early")
	default:
	}
	clk.Step(time.Second)
	if !<-done {
		t.Error("the pause ended as if its context had")
	}
}
