package kube

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/leader"
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
			b.within(t, LeaseDuration+100*time.Millisecond)
			begun := time.Now()
			if begun.Before(last.Add(LeaseDuration)) {
				t.Errorf("b led %v after a's last renewal", begun.Sub(last))
			}
			term, ok := b.Term()
			earliest, latest := last.Add(LeaseDuration+grace), last.Add(LeaseDuration+grace+100*time.Millisecond)
			if !ok || term.From.Before(earliest) || term.From.After(latest) {
				t.Errorf("b writes %v after a's last renewal, want %v or slightly more", term.From.Sub(last), LeaseDuration+grace)
			}
			stopAll(a, b)
		}
	})
}

// In each of a thousand takeovers the leader dies at another time between two renewals.
func TestAStandbyWithoutAWorkingWatchTakesOverInTime(t *testing.T) {
	for name, c := range map[string]struct {
		disturb func(*process)
		most    time.Duration
	}{
		"watched":                {func(*process) {}, LeaseDuration + 100*time.Millisecond},
		"the watch is refused":   {func(p *process) { p.blind = true }, LeaseDuration + 2*RetryPeriod + 100*time.Millisecond},
		"the watch falls silent": {func(p *process) { p.deaf = true }, LeaseDuration + RenewInterval + RetryPeriod + 100*time.Millisecond},
		"the watch comes late":   {func(p *process) { p.slow = time.Second }, LeaseDuration + 2100*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 1))
				for i := range 250 {
					s := &leaseStore{}
					a := s.join(t, "a"+strconv.Itoa(i))
					a.within(t, time.Second)
					b := s.join(t, "b"+strconv.Itoa(i))
					pass(5 * time.Second)
					b.set(c.disturb)
					pass(time.Duration(random.Int64N(int64(20 * time.Second))))
					a.set(func(p *process) { p.unreachable = true })
					last := s.last()
					b.within(t, c.most)
					if term, ok := b.Term(); !ok || time.Now().Before(last.Add(LeaseDuration)) || term.From.Before(last.Add(LeaseDuration+grace)) {
						t.Fatalf("b leads %v after a's last renewal, and writes after %v", time.Since(last), term.From.Sub(last))
					}
					stopAll(a, b)
				}
			})
		})
	}
}

func TestAnInstallationAtRestMakesLessThanOneCallPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		for i := range 2 {
			name := "scaler-" + strconv.Itoa(i)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: name}}
			if _, err := client.CoreV1().Pods("system").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			election, service := NewElection(LeaseLock(client, "system", "scaler", name), ElectionConfig{}), NewLeaderService(client, "system", name)
			ended.Go(func() {
				if err := election.Run(ctx, func(ctx context.Context) error {
					leader.KeepPointed(ctx, service, election, clock.RealClock{}, zap.NewNop())
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		pass(time.Minute)
		client.ClearActions()
		const rest = 10 * time.Minute
		pass(rest)
		calls := map[string]int{}
		for _, action := range client.Actions() {
			calls[action.GetVerb()+" "+action.GetResource().Resource]++
		}
		perSecond := float64(len(client.Actions())) / rest.Seconds()
		t.Logf("%.2f calls per second: %v", perSecond, calls)
		if perSecond > 0.8 || calls["get leases"] > 0 {
			t.Errorf("%.2f calls per second at rest: %v", perSecond, calls)
		}
		cancel()
		ended.Wait()
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
		b.within(t, 100*time.Millisecond)
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
		if took := time.Since(s.last()); took > RenewDeadline {
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

func TestLeaderThatNeverRenewsStopsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &leaseStore{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		a.set(func(p *process) { p.unreachable = true })
		<-a.left
		if took := time.Since(s.last()); took > RenewDeadline {
			t.Errorf("a led for %v", took)
		}
		stopAll(a)
	})
}

func TestOtherProcessesClocksDoNotCount(t *testing.T) {
	for name, skew := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &leaseStore{}
				other := &process{store: s, id: "other"}
				at := metav1.NewTime(time.Now().Add(skew))
				if err := other.Create(t.Context(), resourcelock.LeaderElectionRecord{
					HolderIdentity: other.id, LeaseDurationSeconds: int(LeaseDuration / time.Second), AcquireTime: at, RenewTime: at,
				}); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				a := s.join(t, "a")
				a.within(t, LeaseDuration+100*time.Millisecond)
				if took := time.Since(begun); took < LeaseDuration {
					t.Errorf("a led after %v", took)
				}
				stopAll(a)
			})
		})
	}
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
		if took := time.Since(begun); took > RenewInterval {
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
