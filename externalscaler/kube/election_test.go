package kube

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/kubernetes/fake"
)

func TestFirstLeaderWritesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a, b := s.leaderAndStandby(t)
		pass(time.Minute)
		if term, ok := a.Term(); !ok || !term.From.IsZero() || !term.Until.After(time.Now()) {
			t.Errorf("a: got %+v, %v", term, ok)
		}
		if _, ok := b.Term(); ok {
			t.Error("both lead")
		}
		stopAll(a, b)
	})
}

func TestStandbyLeadsSoonAfterTheLeaderDiesAndWritesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 50 { // so that the times of death, reads and renewals differ
			s := &leaseStore{}
			a := s.join(t, "a"+strconv.Itoa(i))
			a.within(t, time.Second)
			b := s.join(t, "b"+strconv.Itoa(i))
			pass(10*time.Second + time.Duration(i)*17*time.Millisecond)
			a.set(func(p *process) { p.unreachable = true })
			last := s.last()
			b.within(t, 8500*time.Millisecond)
			begun := time.Now()
			if begun.Before(last.Add(LeaseDuration)) {
				t.Errorf("b led %v after a's last renewal", begun.Sub(last))
			}
			term, ok := b.Term()
			earliest, latest := last.Add(LeaseDuration+grace), last.Add(LeaseDuration+grace+2*RetryPeriod+RetryPeriod/2)
			if !ok || term.From.Before(earliest) || term.From.After(latest) {
				t.Errorf("b writes %v after a's last renewal, want %v or slightly more", term.From.Sub(last), LeaseDuration+grace)
			}
			stopAll(a, b)
		}
	})
}

func TestAfterAnOrderlyStopTheNextLeaderWritesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a, b := s.leaderAndStandby(t)
		pass(10 * time.Second)
		a.stop()
		<-a.ended
		if _, ok := a.Term(); ok || a.err != nil {
			t.Errorf("a still leads: %v, %v", ok, a.err)
		}
		b.within(t, 1100*time.Millisecond)
		if term, ok := b.Term(); !ok || !term.From.IsZero() {
			t.Errorf("b: got %+v, %v, want it to write at once", term, ok)
		}
		stopAll(b)
	})
}

func TestLeaseIsNotReleasedWhileWorkMayContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a, b := s.leaderAndStandby(t)
		pass(10 * time.Second)
		cut := errors.New("a call was cut")
		a.end <- cut
		<-a.ended
		if !errors.Is(a.err, cut) {
			t.Errorf("a: got %v", a.err)
		}
		last := s.last()
		b.within(t, 8500*time.Millisecond)
		if term, _ := b.Term(); term.From.Before(last.Add(LeaseDuration + grace)) {
			t.Errorf("b writes %v after a's last renewal", term.From.Sub(last))
		}
		stopAll(b)
	})
}

func TestLeaderThatCannotRenewStopsBeforeAnotherLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a, b := s.leaderAndStandby(t)
		pass(10 * time.Second)
		a.set(func(p *process) { p.unreachable = true })
		<-a.left
		if took := time.Since(s.last()); took > LeaseDuration-RetryPeriod {
			t.Errorf("a continued to lead for %v after its last renewal", took)
		}
		if term, _ := a.Term(); term.Until.After(s.last().Add(LeaseDuration)) {
			t.Errorf("a may write until %v after its last renewal", term.Until.Sub(s.last()))
		}
		select {
		case <-b.led:
			t.Error("b leads already")
		default:
		}
		b.within(t, time.Minute)
		stopAll(a, b)
		if !errors.Is(a.err, ErrLeaseLost) {
			t.Errorf("got %v, want %v", a.err, ErrLeaseLost)
		}
	})
}

func TestLeaderThatSeesAnotherHolderStopsAtOnceAndForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		other := &process{store: s, id: "other"}
		record, _, err := other.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		record.HolderIdentity = other.id
		if err := other.Update(t.Context(), *record); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		<-a.left
		if took := time.Since(begun); took > 2*RetryPeriod {
			t.Errorf("a continued to lead for %v", took)
		}
		a.lease.renewed(*record, time.Now()) // a call that was in progress
		if _, ok := a.Term(); ok {
			t.Error("a leads again after the context of its work has ended")
		}
		stopAll(a)
	})
}

func TestDeletedLeaseDoesNotShortenTheWaitBeforeWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a, b := s.leaderAndStandby(t)
		pass(10 * time.Second)
		a.set(func(p *process) { p.unreachable = true })
		s.mu.Lock()
		s.record = nil
		s.mu.Unlock()
		b.within(t, time.Minute)
		if term, _ := b.Term(); term.From.IsZero() {
			t.Error("b writes at once, while a may still write")
		}
		stopAll(a, b)
	})
}

func TestSlowAnswerDoesNotLengthenTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a := s.join(t, "a")
		a.set(func(p *process) { p.slow = 1500 * time.Millisecond })
		a.within(t, 5*time.Second)
		for range 100 {
			pass(77 * time.Millisecond)
			if term, _ := a.Term(); term.Until.After(s.last().Add(LeaseDuration)) {
				t.Fatalf("a may write until %v after its last renewal", term.Until.Sub(s.last()))
			}
		}
		stopAll(a)
	})
}

func TestRestartedProcessHasAnotherIdentity(t *testing.T) {
	client := fake.NewClientset()
	first, second := LeaseLock(client, "ns", "scaler", "pod"), LeaseLock(client, "ns", "scaler", "pod")
	if first.Identity() == second.Identity() {
		t.Errorf("both are %s", first.Identity())
	}
}
