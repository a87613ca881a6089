package kube

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/leader"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// grace is how long after the end of an unreleased Lease the next leader begins to write.
const grace = 45 * time.Second

var leases = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// leaseStore stores the Lease. As at an API server, an update must name the version that
// it changes.
type leaseStore struct {
	mu      sync.Mutex
	record  *resourcelock.LeaderElectionRecord
	version int
	// applied is when a record with a holder was last written.
	applied time.Time
	// calls counts reads and writes, and begun watches.
	calls    int
	watchers map[*watcher]bool
}

// watcher is a process's watch.
type watcher struct {
	*process
	records chan resourcelock.LeaderElectionRecord
}

// tell reports the present record to a watcher, unless its connection is broken, which
// nobody notices.
func (s *leaseStore) tell(w *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unreachable || w.deaf || s.record == nil && s.version == 0 {
		return
	}
	var record resourcelock.LeaderElectionRecord
	if s.record != nil {
		record = *s.record
	}
	w.records <- record
}

// process is one replica with its connection to the Lease.
type process struct {
	*Election
	store   *leaseStore
	id      string
	version int
	led     chan struct{} // closed when it leads
	left    chan struct{} // closed when lead has returned
	end     chan error    // lead returns an error sent here before its context ends
	ended   chan struct{} // closed when Run has returned
	err     error         // Run's, once ended
	stop    context.CancelFunc

	mu sync.Mutex
	// unreachable makes every call fail after its timeout.
	unreachable bool
	// paused blocks every call until it is closed, like a suspended process.
	paused chan struct{}
	// answersLost makes calls take effect without an answer.
	answersLost bool
	// slow delays the answer to a call that has taken effect.
	slow time.Duration
	// blind makes the API server refuse watches, and ends present ones.
	blind bool
	// deaf makes watches silent, like a broken connection that nobody has noticed.
	deaf bool
}

// Watch implements Lock.
func (p *process) Watch(ctx context.Context) (<-chan resourcelock.LeaderElectionRecord, error) {
	w := &watcher{process: p, records: make(chan resourcelock.LeaderElectionRecord, 10000)}
	if err := p.call(ctx, func() error {
		if p.isBlind() {
			return apierrors.NewForbidden(leases, "scaler", nil)
		}
		if p.store.watchers == nil {
			p.store.watchers = map[*watcher]bool{}
		}
		p.store.watchers[w] = true
		p.store.tell(w)
		return nil
	}); err != nil {
		return nil, err
	}
	seen := make(chan resourcelock.LeaderElectionRecord)
	go func() {
		defer close(seen)
		defer func() {
			p.store.mu.Lock()
			defer p.store.mu.Unlock()
			delete(p.store.watchers, w)
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case record := <-w.records:
				if p.isBlind() {
					return
				}
				if paused := p.isPaused(); paused != nil {
					<-paused
				}
				select {
				case seen <- record:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return seen, nil
}

func (p *process) isBlind() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blind
}

func (p *process) isPaused() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}

// leaderAndStandby starts a process that leads, and then one that does not.
func (s *leaseStore) leaderAndStandby(t *testing.T) (a, b *process) {
	t.Helper()
	a = s.join(t, "a")
	a.within(t, time.Second)
	return a, s.join(t, "b")
}

func (s *leaseStore) join(t *testing.T, id string) *process {
	t.Helper()
	p := &process{store: s, id: id, led: make(chan struct{}), left: make(chan struct{}), end: make(chan error, 1), ended: make(chan struct{})}
	p.Election = NewElection(p, ElectionConfig{WriteSettle: grace - leader.WriteTimeout})
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

// call makes one call of a process, which reads or writes the store.
func (p *process) call(ctx context.Context, do func() error) error {
	p.mu.Lock()
	paused, unreachable, answersLost, slow := p.paused, p.unreachable, p.answersLost, p.slow
	p.mu.Unlock()
	if paused != nil {
		<-paused
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if unreachable {
		timer := time.NewTimer(RenewDeadline / 2)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return context.DeadlineExceeded
		}
	}
	p.store.mu.Lock()
	p.store.calls++
	err := do()
	p.store.mu.Unlock()
	pass(slow)
	if answersLost {
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
		if p.store.record == nil {
			return apierrors.NewNotFound(leases, "scaler")
		}
		found := *p.store.record
		record, p.version = &found, p.store.version
		var err error
		raw, err = json.Marshal(found)
		return err
	})
	return record, raw, err
}

func (p *process) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return p.call(ctx, func() error {
		if p.store.record != nil {
			return apierrors.NewAlreadyExists(leases, "scaler")
		}
		return p.write(record)
	})
}

func (p *process) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return p.call(ctx, func() error {
		if p.store.record == nil || p.version != p.store.version {
			return apierrors.NewConflict(leases, "scaler", errors.New("changed"))
		}
		return p.write(record)
	})
}

func (p *process) write(record resourcelock.LeaderElectionRecord) error {
	p.store.record = &record
	p.store.version++
	p.version = p.store.version
	if record.HolderIdentity != "" {
		p.store.applied = time.Now()
	}
	for w := range p.store.watchers {
		p.store.tell(w)
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
func (s *leaseStore) last() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}

// disturbed reports whether calls of the process are disturbed, and whether the process
// is suspended.
func (p *process) disturbed() (disturbed, suspended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unreachable || p.answersLost || p.slow > 0 || p.blind || p.paused != nil, p.paused != nil
}

// pass lets time pass on the clock of the synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

// within waits for a process to lead and fails the test if that takes longer than most.
func (p *process) within(t *testing.T, most time.Duration) {
	t.Helper()
	begun := time.Now()
	select {
	case <-p.led:
	case <-time.After(time.Hour):
		t.Fatalf("%s does not lead", p.id)
	}
	if took := time.Since(begun); took > most {
		t.Errorf("%s led after %v, want at most %v", p.id, took, most)
	}
}

// stopAll stops the processes without a release of the Lease.
func stopAll(processes ...*process) {
	for _, p := range processes {
		p.set(func(p *process) { p.unreachable = true })
		p.stop()
		<-p.ended
	}
}
