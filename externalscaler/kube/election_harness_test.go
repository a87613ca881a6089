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
