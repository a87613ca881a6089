package fleet

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// tenure is a term that a test gives and takes.
type tenure struct {
	mu   sync.Mutex
	term Term
	held bool
}

func (t *tenure) Term() (Term, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.term, t.held
}

func (t *tenure) give(term Term, held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.term, t.held = term, held
}

func TestOnlyALeaderThatHasSettledWrites(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC))
	leads := &tenure{}
	r := start(t, Config{Clock: clock, Tenure: leads})
	group, err := r.call("builds", of("acme", "", "a"))
	if err != nil {
		t.Fatal(err)
	}
	create := func() error {
		_, err := group.Scope.Create(t.Context(), bitbucket.NewRunner{Name: "r", Labels: []string{"self.hosted", "linux", "a", "keda.test"}})
		return err
	}
	writes := func() error {
		runner := bitbucket.Runner{UUID: "{aaaaaaaa-0000-4000-8000-000000000000}"}
		return errors.Join(create(), group.Scope.Disable(t.Context(), runner), group.Scope.Delete(t.Context(), runner))
	}
	refused := func(when string) {
		t.Helper()
		if err := writes(); !errors.Is(err, ErrNotWritable) || !errors.Is(group.Scope.Writable(), ErrNotWritable) {
			t.Errorf("%s: got %v, want %v", when, err, ErrNotWritable)
		}
		if state, err := r.control.State(t.Context()); err != nil || len(state.Runners) != 0 {
			t.Fatalf("%s: %d runners, %v", when, len(state.Runners), err)
		}
	}
	now := clock.Now()
	refused("without a term")
	leads.give(Term{From: now.Add(time.Minute), Until: now.Add(time.Hour)}, true)
	refused("before the last leader's writes have settled")
	leads.give(Term{From: now.Add(-time.Second), Until: now}, true)
	refused("after the term has run out")
	clock.Step(time.Second)
	leads.give(Term{From: clock.Now(), Until: now.Add(time.Hour)}, true)
	refused("before a list begun since")
	clock.Step(2 * time.Minute)
	r.until("the next list", func() bool {
		clock.Step(time.Second)
		return group.Scope.Writable() == nil
	})
	if err := create(); err != nil {
		t.Errorf("a settled leader: got %v", err)
	}
}

func TestAWriteEndsWithTheTerm(t *testing.T) {
	leads := &tenure{}
	r := start(t, Config{Tenure: leads})
	group, err := r.call("builds", of("acme", "", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.control.SetFaults(t.Context(), []emulator.FaultRule{{Method: "POST", Path: "*", Latency: patience.String()}}); err != nil {
		t.Fatal(err)
	}
	leads.give(Term{Until: time.Now().Add(200 * time.Millisecond)}, true)
	_, err = group.Scope.Create(t.Context(), bitbucket.NewRunner{Name: "r", Labels: []string{"self.hosted", "linux", "a"}})
	// Not by its own deadline, which comes later.
	if !errors.Is(err, bitbucket.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want an unknown outcome, cut off as the term ends", err)
	}
}
