package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// grace is what an unclean takeover adds to the end of the Lease.
const grace = 45 * time.Second

var leases = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// shelf is where the Lease lies. An update must name the version that it changes,
// as at an API server.
type shelf struct {
	mu      sync.Mutex
	record  *resourcelock.LeaderElectionRecord
	version int
	// applied is when a record with a holder was last written.
	applied time.Time
}

// process is one replica and its way to the Lease.
type process struct {
	*Election
	shelf   *shelf
	id      string
	version int
	led     chan struct{} // closed when it leads
	left    chan struct{} // closed when lead has returned
	end     chan error    // given to lead as its outcome, when not to wait for its context
	ended   chan struct{} // closed when Run has returned
	err     error         // Run's, once ended
	stop    context.CancelFunc

	mu sync.Mutex
	// gone: no call comes through, each fails after its time.
	gone bool
	// paused holds up every call until it is closed, as a stopped process would.
	paused chan struct{}
	// deaf: calls take effect, and their answers are lost.
	deaf bool
	// slow is how long the answer to a call takes that has taken effect.
	slow time.Duration
}

func (s *shelf) join(t *testing.T, id string) *process {
	t.Helper()
	p := &process{shelf: s, id: id, led: make(chan struct{}), left: make(chan struct{}), end: make(chan error, 1), ended: make(chan struct{})}
	p.Election = NewElection(p, ElectionConfig{WriteSettle: grace - writeTimeout})
	ctx, cancel := context.WithCancel(t.Context())
	p.stop = cancel
	go func() {
		defer close(p.ended)
		p.err = p.Run(ctx, func(ctx context.Context) error {
			defer close(p.left)
			close(p.led)
			select {
			case <-ctx.Done():
				return nil
			case err := <-p.end:
				return err
			}
		})
	}()
	return p
}

// call is one call of a process, which changes or reads the shelf.
func (p *process) call(ctx context.Context, do func() error) error {
	p.mu.Lock()
	paused, gone, deaf, slow := p.paused, p.gone, p.deaf, p.slow
	p.mu.Unlock()
	if paused != nil {
		<-paused
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if gone {
		timer := time.NewTimer(RenewDeadline / 2)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return context.DeadlineExceeded
		}
	}
	p.shelf.mu.Lock()
	err := do()
	p.shelf.mu.Unlock()
	pass(slow)
	if deaf {
		return context.DeadlineExceeded
	}
	return err
}

func (p *process) set(change func(*process)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *process) Get(ctx context.Context) (record *resourcelock.LeaderElectionRecord, raw []byte, err error) {
	err = p.call(ctx, func() error {
		if p.shelf.record == nil {
			return apierrors.NewNotFound(leases, "scaler")
		}
		found := *p.shelf.record
		record, p.version = &found, p.shelf.version
		var err error
		raw, err = json.Marshal(found)
		return err
	})
	return record, raw, err
}

func (p *process) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return p.call(ctx, func() error {
		if p.shelf.record != nil {
			return apierrors.NewAlreadyExists(leases, "scaler")
		}
		return p.write(record)
	})
}

func (p *process) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return p.call(ctx, func() error {
		if p.shelf.record == nil || p.version != p.shelf.version {
			return apierrors.NewConflict(leases, "scaler", errors.New("changed"))
		}
		return p.write(record)
	})
}

func (p *process) write(record resourcelock.LeaderElectionRecord) error {
	p.shelf.record = &record
	p.shelf.version++
	p.version = p.shelf.version
	if record.HolderIdentity != "" {
		p.shelf.applied = time.Now()
	}
	return nil
}

func (p *process) RecordEvent(string) {}
func (p *process) Identity() string   { return p.id }
func (p *process) Describe() string   { return "scaler" }

// leadsNow reports whether the process believes that it leads.
func (p *process) leadsNow() bool {
	term, ok := p.Term()
	return ok && time.Now().Before(term.Until)
}

// last is when a record with a holder was last written.
func (s *shelf) last() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}

// disturbed reports whether a call would not come through in order, and whether
// the process is stopped.
func (p *process) disturbed() (disturbed, stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone || p.deaf || p.slow > 0 || p.paused != nil, p.paused != nil
}

// pass lets time pass, of the bubble's own clock.
func pass(d time.Duration) { <-time.After(d) }

// within waits for a process to lead and says how long that took.
func (p *process) within(t *testing.T, most time.Duration) {
	t.Helper()
	begun := time.Now()
	select {
	case <-p.led:
	case <-time.After(time.Hour):
		t.Fatalf("%s does not lead", p.id)
	}
	if took := time.Since(begun); took > most {
		t.Errorf("%s led after %v, want %v at most", p.id, took, most)
	}
}

// over ends the processes.
func over(processes ...*process) {
	for _, p := range processes {
		p.set(func(p *process) { p.gone = true })
		p.stop()
		<-p.ended
	}
}

func TestOneLeadsAndWritesAtOnceWhereNobodyLedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		b := s.join(t, "b")
		pass(time.Minute)
		if term, ok := a.Term(); !ok || !term.From.IsZero() || !term.Until.After(time.Now()) {
			t.Errorf("a: got %+v, %v", term, ok)
		}
		if _, ok := b.Term(); ok {
			t.Error("both lead")
		}
		over(a, b)
	})
}

func TestAStandbyLeadsSoonAfterTheLeaderDiedAndWritesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 50 { // the moments of death, of looks, and of renewals differ
			s := &shelf{}
			a := s.join(t, "a"+strconv.Itoa(i))
			a.within(t, time.Second)
			b := s.join(t, "b"+strconv.Itoa(i))
			pass(10*time.Second + time.Duration(i)*17*time.Millisecond)
			a.set(func(p *process) { p.gone = true })
			last := s.last()
			b.within(t, 8500*time.Millisecond)
			begun := time.Now()
			if begun.Before(last.Add(LeaseDuration)) {
				t.Errorf("b led %v after a's last renewal", begun.Sub(last))
			}
			term, ok := b.Term()
			earliest, latest := last.Add(LeaseDuration+grace), last.Add(LeaseDuration+grace+2*RetryPeriod+RetryPeriod/2)
			if !ok || term.From.Before(earliest) || term.From.After(latest) {
				t.Errorf("b writes %v after a's last renewal, want %v or little more", term.From.Sub(last), LeaseDuration+grace)
			}
			over(a, b)
		}
	})
}

func TestAnOrderlyStopLetsAnotherLeadAndWriteAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		b := s.join(t, "b")
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
		over(b)
	})
}

func TestLeaseUnderWhichWorkMayGoOnIsNotReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		b := s.join(t, "b")
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
		over(b)
	})
}

func TestLeaderThatCannotRenewEndsBeforeAnotherLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		b := s.join(t, "b")
		pass(10 * time.Second)
		a.set(func(p *process) { p.gone = true })
		<-a.left
		if took := time.Since(s.last()); took > LeaseDuration-RetryPeriod {
			t.Errorf("a led on for %v after its last renewal", took)
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
		over(a, b)
		if !errors.Is(a.err, ErrLeaseLost) {
			t.Errorf("got %v, want %v", a.err, ErrLeaseLost)
		}
	})
}

func TestLeaderThatSeesAnothersLeaseEndsAtOnceAndForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		other := &process{shelf: s, id: "other"}
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
			t.Errorf("a led on for %v", took)
		}
		a.lease.renewed(*record, time.Now()) // as by a call that was on its way
		if _, ok := a.Term(); ok {
			t.Error("a leads again, after its work was told to end")
		}
		over(a)
	})
}

func TestLeaseThatWasDeletedDoesNotMakeATakeoverClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a := s.join(t, "a")
		a.within(t, time.Second)
		b := s.join(t, "b")
		pass(10 * time.Second)
		a.set(func(p *process) { p.gone = true })
		s.mu.Lock()
		s.record = nil
		s.mu.Unlock()
		b.within(t, time.Minute)
		if term, _ := b.Term(); term.From.IsZero() {
			t.Error("b writes at once, while a may write still")
		}
		over(a, b)
	})
}

func TestAnAnswerThatTakesLongDoesNotLengthenTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		a := s.join(t, "a")
		a.set(func(p *process) { p.slow = 1500 * time.Millisecond })
		a.within(t, 5*time.Second)
		for range 100 {
			pass(77 * time.Millisecond)
			if term, _ := a.Term(); term.Until.After(s.last().Add(LeaseDuration)) {
				t.Fatalf("a may write until %v after its last renewal", term.Until.Sub(s.last()))
			}
		}
		over(a)
	})
}

func TestAProcessThatStartsAgainIsAnother(t *testing.T) {
	client := fake.NewClientset()
	first, second := LeaseLock(client, "ns", "scaler", "pod"), LeaseLock(client, "ns", "scaler", "pod")
	if first.Identity() == second.Identity() {
		t.Errorf("both are %s", first.Identity())
	}
}

// TestNeverTwoLeaders plays with three processes: stops and continues them, cuts
// them off, loses or delays the answers of calls that took effect, ends them in order or
// not, and starts others.
func TestNeverTwoLeaders(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

// replica is a process of the play, and what it was seen to do.
type replica struct {
	*process
	resume func()
	// until is the last term's end as the process itself saw it.
	until time.Time
	// orderly: it was stopped, and all its work had ended.
	orderly bool
}

func play(t *testing.T, random *rand.Rand) {
	s := &shelf{}
	var now, former []*replica
	started := 0
	start := func() {
		started++
		now = append(now, &replica{process: s.join(t, strconv.Itoa(started)), resume: func() {}})
	}
	for range 3 {
		start()
	}
	for range 2000 {
		if t.Failed() {
			break
		}
		pass(time.Duration(1+random.IntN(400)) * time.Millisecond)
		synctest.Wait()
		now, former = look(t, now, former)
		for len(now) < 3 {
			start()
		}
		if random.IntN(12) == 0 {
			disturb(now[random.IntN(len(now))], random)
		}
	}
	for _, r := range now {
		r.resume()
		over(r.process)
	}
}

// look checks who leads, and sorts out those that have ended.
func look(t *testing.T, now, former []*replica) (still, ended []*replica) {
	t.Helper()
	var leader *replica
	for _, r := range now {
		if _, stopped := r.disturbed(); stopped { // it cannot act, whatever it believes
			continue
		}
		if r.leadsNow() {
			if leader != nil {
				t.Errorf("%s and %s lead both", leader.id, r.id)
			}
			leader = r
			term, _ := r.Term()
			r.until = term.Until
		}
	}
	for _, r := range now {
		select {
		case <-r.ended:
			former = append(former, r)
		default:
			still = append(still, r)
		}
	}
	if leader == nil {
		return still, former
	}
	if term, _ := leader.Term(); time.Now().Before(term.From) {
		return still, former
	}
	for _, r := range append(former, still...) {
		if since := time.Since(r.until); r != leader && !r.orderly && since < grace {
			t.Errorf("%s writes, %s could until %v ago", leader.id, r.id, since)
		}
	}
	return still, former
}

// disturb does something to a replica, or ends what was done before.
func disturb(r *replica, random *rand.Rand) {
	if disturbed, _ := r.disturbed(); disturbed {
		r.resume()
		r.resume = func() {}
		return
	}
	switch random.IntN(5) {
	case 0:
		paused := make(chan struct{})
		r.set(func(p *process) { p.paused = paused })
		r.resume = func() { close(paused); r.set(func(p *process) { p.paused = nil }) }
	case 1:
		r.set(func(p *process) { p.gone = true })
		r.resume = func() { r.set(func(p *process) { p.gone = false }) }
	case 2:
		r.set(func(p *process) { p.deaf = true })
		r.resume = func() { r.set(func(p *process) { p.deaf = false }) }
	case 3:
		r.set(func(p *process) { p.slow = time.Duration(1+random.IntN(1900)) * time.Millisecond })
		r.resume = func() { r.set(func(p *process) { p.slow = 0 }) }
	case 4:
		r.orderly = true
		r.stop()
	}
}
