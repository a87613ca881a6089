package sidecar

import (
	"sync"
	"time"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// report is what the runner process does as of a moment.
type report struct {
	state runnerv1.RunnerState
	// step is the UUID of the step, braces included, where state is BUSY.
	step string
	// begun is how many steps the runner has begun.
	begun uint32
	// unrecognized is true where the runner's lines are of a format that is not known.
	unrecognized bool
}

// maxPending bounds the reports kept while nobody takes them; what matters most
// is the latest.
const maxPending = 64

// reports passes each change of state on to one reader, who may come and go.
type reports struct {
	// changed gets a value whenever there is something to take.
	changed chan struct{}

	mu      sync.Mutex
	latest  report
	since   time.Time
	pending []report
}

func newReports(first report) *reports {
	return &reports{changed: make(chan struct{}, 1), latest: first, since: time.Now()}
}

func (r *reports) put(next report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if next == r.latest {
		return
	}
	r.latest, r.since = next, time.Now()
	r.pending = append(r.pending, next)
	if len(r.pending) > maxPending {
		r.pending = r.pending[1:]
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// take returns the changes since the last take, oldest first.
func (r *reports) take() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := r.pending
	r.pending = nil
	return pending
}

// reopen forgets what a lost reader did not take, and returns the present state.
func (r *reports) reopen() report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = nil
	return r.latest
}

// again has the present state told once more, with what else is known by now.
func (r *reports) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, r.latest)
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// lasting is the present state, and for how long it has been so.
func (r *reports) lasting() (report, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest, time.Since(r.since)
}

func (r *reports) now() report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest
}
