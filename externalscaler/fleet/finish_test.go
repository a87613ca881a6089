package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// slowly makes a scope whose registrations take that long.
func slowly(t *testing.T, latency time.Duration, tenure Tenure) (r *rig, create func(context.Context) error) {
	t.Helper()
	r = start(t, Config{Tenure: tenure})
	group, err := r.call("builds", of("acme", "", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.control.SetFaults(t.Context(), []emulator.FaultRule{{Method: "POST", Path: "*", Latency: latency.String()}}); err != nil {
		t.Fatal(err)
	}
	return r, func(ctx context.Context) error {
		_, err := group.Scope.Create(ctx, bitbucket.NewRunner{Name: "r", Labels: []string{"self.hosted", "linux", "a", "keda.test"}})
		return err
	}
}

func TestAWriteThatHasBegunIsFinishedThoughItsCallerStops(t *testing.T) {
	r, create := slowly(t, time.Second, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- create(ctx) }()
	r.until("the write to begin", func() bool {
		state, err := r.control.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for route := range state.Counters.Calls {
			if strings.HasPrefix(route, "POST ") && strings.HasSuffix(route, "/runners") {
				return true
			}
		}
		return false
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
	if err := create(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a write of one who was stopped before: got %v, want %v", err, context.Canceled)
	}
}

// renewing is a term that is renewed for as long as it is asked for.
type renewing struct{}

func (renewing) Term() (Term, bool) { return Term{Until: time.Now().Add(200 * time.Millisecond)}, true }

func TestAWriteMayLastBeyondTheTermAsItWasAtItsBegin(t *testing.T) {
	if _, create := slowly(t, time.Second, renewing{}); create(t.Context()) != nil {
		t.Error("the write was cut, while the term went on")
	}
}
