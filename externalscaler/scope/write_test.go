package scope

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/leader"
)

// leadership is a term that a test gives and takes.
type leadership struct {
	mu   sync.Mutex
	term leader.LeaseTerm
	held bool
}

func (l *leadership) Term() (leader.LeaseTerm, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.held
}

func (l *leadership) give(term leader.LeaseTerm, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.held = term, held
}

func TestOnlyALeaderWhoseTermHasBegunWrites(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC))
	leads := &leadership{}
	r := start(t, Config{Clock: clk, Leadership: leads})
	r.want(acme())
	refused := func(when string) {
		t.Helper()
		runner := bitbucket.Runner{UUID: "{aaaaaaaa-0000-4000-8000-000000000000}"}
		_, err := r.create(t.Context(), "r")
		for what, err := range map[string]error{
			"registration": err, "disabling": r.Disable(t.Context(), acme(), runner), "deletion": r.Delete(t.Context(), acme(), runner),
			"a Job's end": r.WhileUnregistered(t.Context(), acme(), "", func(context.Context) error { return nil }),
		} {
			if !errors.Is(err, ErrNotWritable) {
				t.Errorf("%s: %s: got %v, want %v", when, what, err, ErrNotWritable)
			}
		}
		if state, err := r.control.State(t.Context()); err != nil || len(state.Runners) != 0 {
			t.Fatalf("%s: %d runners, %v", when, len(state.Runners), err)
		}
	}
	now := clk.Now()
	refused("without a term")
	leads.give(leader.LeaseTerm{From: now.Add(time.Minute), Until: now.Add(time.Hour)}, true)
	refused("before the last leader's writes have taken effect")
	leads.give(leader.LeaseTerm{From: now.Add(-time.Second), Until: now}, true)
	refused("after the term has run out")
	clk.Step(time.Second)
	leads.give(leader.LeaseTerm{From: clk.Now(), Until: now.Add(time.Hour)}, true)
	refused("before a list begun since")
	clk.Step(2 * time.Minute)
	r.until("the first write after the next list", func() bool {
		clk.Step(time.Second)
		_, err := r.create(t.Context(), "r")
		return err == nil
	})
}

func TestAWriteEndsWithTheTerm(t *testing.T) {
	leads := &leadership{}
	r := start(t, Config{Leadership: leads})
	r.want(acme())
	r.faults(emulator.FaultRule{Method: "POST", Path: "*", Latency: patience.String()})
	leads.give(leader.LeaseTerm{Until: time.Now().Add(200 * time.Millisecond)}, true)
	_, err := r.create(t.Context(), "r")
	// Not by its own deadline, which comes later.
	if !errors.Is(err, bitbucket.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want an unknown outcome, cut off as the term ends", err)
	}
}

// renewing is a term that is renewed for as long as it is asked for.
type renewing struct{}

func (renewing) Term() (leader.LeaseTerm, bool) {
	return leader.LeaseTerm{Until: time.Now().Add(200 * time.Millisecond)}, true
}

func TestAWriteMayLastBeyondTheTermAsItWasAtItsBegin(t *testing.T) {
	r := start(t, Config{Leadership: renewing{}})
	r.want(acme())
	r.faults(emulator.FaultRule{Method: "POST", Path: "*", Latency: "1s"})
	if _, err := r.create(t.Context(), "r"); err != nil {
		t.Errorf("the write was cut off, while the term went on: %v", err)
	}
}

func TestAWriteThatHasBegunIsFinishedThoughItsCallerStops(t *testing.T) {
	r := start(t, Config{})
	r.want(acme())
	r.faults(emulator.FaultRule{Method: "POST", Path: "*", Latency: "1s"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := r.create(ctx, "r"); done <- err }()
	r.until("the write to begin", func() bool { return r.calls("POST", "/runners") > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
	if err := r.Disable(ctx, acme(), bitbucket.Runner{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a write of a caller that was stopped before: got %v, want %v", err, context.Canceled)
	}
}

func TestWritesAreSeenBeforeAListShowsThem(t *testing.T) {
	r := start(t, Config{PollInterval: time.Hour})
	r.want(acme())
	runner := r.mustCreate("r")
	known := r.view(acme()).Runners
	if len(known) != 1 || known[0].OAuthClient != nil {
		t.Fatalf("got %+v, want the runner without its secret", known)
	}
	if err := r.Disable(t.Context(), acme(), runner); err != nil {
		t.Fatal(err)
	}
	if got := r.view(acme()).Runners[0].State.Status; got != bitbucket.StatusDisabled {
		t.Errorf("status %s", got)
	}
	if _, ok := r.Listed(acme(), runner.UUID); ok {
		t.Error("what was written counts as what a list showed")
	}
	if got, err := r.Recheck(t.Context(), acme(), runner.UUID); err != nil || got.State.Status != bitbucket.StatusDisabled {
		t.Fatalf("got %+v, %v", got, err)
	}
	if listed, ok := r.Listed(acme(), runner.UUID); !ok || listed.Runner.State.Status != bitbucket.StatusDisabled || listed.ShowsSteps {
		t.Errorf("after a recheck: got %+v, %v, want it DISABLED, which proves nothing of its steps", listed, ok)
	}
	if err := r.Delete(t.Context(), acme(), runner); err != nil {
		t.Fatal(err)
	}
	sc, err := r.find(acme())
	if err != nil {
		t.Fatal(err)
	}
	sc.record(write{runner: runner}) // a disable that ended after the deletion
	if known := r.view(acme()).Runners; len(known) != 0 {
		t.Errorf("a late write brought %+v back", known)
	}
}
