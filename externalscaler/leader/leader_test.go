package leader_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/externalscaler/leader"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestWhetherLeadershipHolds(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		leadership leader.Leadership
		want       bool
	}{
		"alone":                {leader.Alone{}, true},
		"a standby":            {&leadership{}, false},
		"within the term":      {&leadership{held: true, term: leader.LeaseTerm{Until: now.Add(1)}}, true},
		"at the term's end":    {&leadership{held: true, term: leader.LeaseTerm{Until: now}}, false},
		"a term without a end": {&leadership{held: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := leader.Holds(c.leadership, now); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWriteIsCutOffWhenTheTermEnds(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
	l := &leadership{held: true, term: leader.LeaseTerm{Until: clk.Now().Add(time.Second)}}
	ctx, cancel := leader.BoundWrite(t.Context(), l, clk)
	defer cancel()
	for !clk.HasWaiters() && t.Context().Err() == nil { // until the end of the term is waited for
		continue
	}
	l.give(leader.LeaseTerm{Until: clk.Now().Add(3 * time.Second)}, true) // renewed
	clk.Step(time.Second)
	for !clk.HasWaiters() && t.Context().Err() == nil {
		continue
	}
	if ctx.Err() != nil {
		t.Fatal("the write was cut off although the term was renewed")
	}
	clk.Step(2 * time.Second)
	<-ctx.Done()
	if err := ctx.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cut off before its own deadline", err)
	}
}

func TestWriteOutlivesItsCallerButNotItsDeadline(t *testing.T) {
	parent, cancel := context.WithTimeout(t.Context(), time.Hour)
	ctx, end := leader.BoundWrite(parent, leader.Alone{}, clock.RealClock{})
	defer end()
	cancel()
	if ctx.Err() != nil {
		t.Error("the write was cut off as its caller went away")
	}
	deadline, ok := ctx.Deadline()
	if rest := time.Until(deadline); !ok || rest > leader.WriteTimeout {
		t.Errorf("the write may last %v, want at most %v", rest, leader.WriteTimeout)
	}
}

func TestStandbyCannotWrite(t *testing.T) {
	ctx, cancel := leader.BoundWrite(t.Context(), &leadership{}, clock.RealClock{})
	defer cancel()
	<-ctx.Done()
	if err := ctx.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cut off at once", err)
	}
}

// service counts the moves of a Service.
type service struct {
	mu              sync.Mutex
	pointed, failed int
	withdrawn       bool
}

var errService = errors.New("the API server is away")

func (s *service) PointHere(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pointed++
	if s.failed > 0 {
		s.failed--
		return errService
	}
	return nil
}

func (s *service) Withdraw(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withdrawn = true
	return nil
}

func (s *service) seen() (pointed int, withdrawn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pointed, s.withdrawn
}

func TestTheServiceIsKeptPointedWhileTheTermLasts(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
	l, s := &leadership{held: true}, &service{failed: 1}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		leader.KeepPointed(ctx, s, l, clk, zap.NewNop())
		close(done)
	}()
	look := func() {
		for !clk.HasWaiters() && t.Context().Err() == nil {
			continue
		}
	}
	look()
	clk.Step(250 * time.Millisecond) // soon after a failure
	look()
	if n, _ := s.seen(); n != 2 {
		t.Errorf("pointed %d times, want 2: once more after the failure", n)
	}
	l.give(leader.LeaseTerm{}, false)
	clk.Step(5 * time.Second)
	look()
	if n, _ := s.seen(); n != 2 {
		t.Errorf("pointed %d times, want none without the lease", n)
	}
	l.give(leader.LeaseTerm{}, true)
	clk.Step(5 * time.Second)
	look()
	if n, _ := s.seen(); n != 3 {
		t.Errorf("pointed %d times, want one more to repair what was changed", n)
	}
	cancel()
	<-done
	if _, withdrawn := s.seen(); !withdrawn {
		t.Error("the Service still points here after the end")
	}
}
