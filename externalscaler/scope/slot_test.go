package scope

import (
	"context"
	"errors"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// slots is a scope with a list of live runners of a group, named a, b and so on.
func slots(t *testing.T, names ...string) *listed {
	t.Helper()
	s := newListed()
	s.begun = s.begun.Add(time.Minute)
	var runners []bitbucket.Runner
	for i, name := range names {
		runners = append(runners, bitbucket.Runner{UUID: string(rune('A' + i)), Name: name, Labels: []string{owner}})
	}
	s.accept(t.Context(), bitbucket.RunnerList{Runners: runners, Begun: s.begun})
	return s
}

func TestHowSlotsAreCounted(t *testing.T) {
	live := func(name string) bool { return name == "live" || name == "posted" }
	for name, c := range map[string]struct {
		names    []string
		attempts map[string]time.Duration // by name, how long before the list
		want     slotCount
	}{
		"none":                                  {},
		"another group's":                       {names: []string{"other"}, want: slotCount{others: 1}},
		"one of the group":                      {names: []string{"live"}, want: slotCount{live: 1, others: 1}},
		"twins are one process":                 {names: []string{"live", "live"}, want: slotCount{live: 1, others: 2}},
		"the own one":                           {names: []string{"own"}, want: slotCount{own: make([]bitbucket.Runner, 1)}},
		"an attempt of late":                    {attempts: map[string]time.Duration{"posted": 0}, want: slotCount{live: 1, others: 1}},
		"an attempt that no list must show yet": {attempts: map[string]time.Duration{"posted": 29 * time.Second}, want: slotCount{live: 1, others: 1}},
		"an attempt that a list must show":      {attempts: map[string]time.Duration{"posted": 31 * time.Second}},
		"an attempt long ago":                   {attempts: map[string]time.Duration{"posted": time.Hour}},
		"an attempt that listed":                {names: []string{"posted"}, attempts: map[string]time.Duration{"posted": 0}, want: slotCount{live: 1, others: 1}},
		"the own attempt":                       {attempts: map[string]time.Duration{"own": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			s := slots(t, c.names...)
			for name, ago := range c.attempts {
				s.attempts[name] = s.begun.Add(-ago)
			}
			wanted := request("own")
			wanted.Live = live
			got := s.countSlots(wanted)
			if len(got.own) != len(c.want.own) || got.live != c.want.live || got.others != c.want.others {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestARegistrationKeepsBothLimits(t *testing.T) {
	r := start(t, Config{PollInterval: 20 * time.Millisecond})
	r.want(acme())
	r.mustCreate("first")
	atMax := false
	_, err := r.Register(t.Context(), acme(), func() (SlotRequest, error) {
		second := request("second")
		second.Max, second.Live, second.AtMax = 1, func(name string) bool { return name == "first" }, func() { atMax = true }
		return second, nil
	})
	var reached *AtMaxError
	if !errors.As(err, &reached) || reached.Live != 1 || !atMax {
		t.Errorf("at the group's max: got %v, called %v", err, atMax)
	}
	for i := 1; i < policy.ScopeLimit; i++ {
		r.mustCreate("r" + string(rune(i)))
	}
	var full *FullError
	if _, err := r.create(t.Context(), "one more"); !errors.As(err, &full) || full.Registered != policy.ScopeLimit {
		t.Errorf("in a full scope: got %v", err)
	}
}

func TestAnExistingRunnerIsReplacedOnlyIfItMayBe(t *testing.T) {
	r := start(t, Config{PollInterval: 20 * time.Millisecond})
	r.want(acme())
	first := r.mustCreate("r")
	refused := errors.New("it may be running")
	register := func(replaceable error) (Registered, error) {
		return r.Register(t.Context(), acme(), func() (SlotRequest, error) {
			again := request("r")
			again.Replaceable = func(existing bitbucket.Runner) error {
				if existing.UUID != first.UUID {
					t.Errorf("asked about %s, want %s", existing.UUID, first.UUID)
				}
				return replaceable
			}
			return again, nil
		})
	}
	if _, err := register(refused); !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	if got, err := register(nil); err != nil || !got.Replaced || got.Runner.UUID == first.UUID {
		t.Errorf("got %+v, %v, want another runner in its place", got, err)
	}
	if n := len(r.view(acme()).Runners); n != 1 {
		t.Errorf("%d runners, want 1", n)
	}
}

func TestARegistrationOfUnknownOutcomeIsNotRepeated(t *testing.T) {
	r := start(t, Config{PollInterval: 20 * time.Millisecond, WriteSettle: 500 * time.Millisecond})
	r.want(acme())
	r.faults(emulator.FaultRule{Method: "POST", Path: "*", DropAfterWrite: true, Count: 1})
	if _, err := r.create(t.Context(), "r"); !errors.Is(err, bitbucket.ErrOutcomeUnknown) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.create(t.Context(), "r"); !errors.Is(err, ErrOutcomePending) {
		t.Errorf("at once: got %v, want %v", err, ErrOutcomePending)
	}
	r.until("the outcome to be known", func() bool { _, err := r.create(t.Context(), "r"); return err == nil })
	if n := r.calls("DELETE", "}"); n != 1 {
		t.Errorf("%d runners were deleted first, want the one that had been registered", n)
	}
}

func TestNothingIsDoneToAJobThatHasARunner(t *testing.T) {
	r := start(t, Config{PollInterval: time.Hour})
	r.want(acme())
	r.mustCreate("r")
	for name, want := range map[string]bool{"r": false, "other": true, "": true} {
		done := false
		err := r.WhileUnregistered(t.Context(), acme(), name, func(ctx context.Context) error { done = true; return nil })
		if err != nil || done != want {
			t.Errorf("%q: done %v, %v, want %v", name, done, err, want)
		}
	}
}

func TestOnlyOneRegistersAtATime(t *testing.T) {
	r := start(t, Config{PollInterval: time.Hour})
	r.want(acme())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := r.WhileUnregistered(t.Context(), acme(), "", func(context.Context) error {
		_, err := r.create(ctx, "r")
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a second one got %v while the first holds the slots", err)
	}
}
