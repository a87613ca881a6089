package socket

import (
	"sync"
	"time"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Step names a step by UUIDs in braces. What is not known is empty.
type Step struct {
	Repository string `json:"repository,omitempty"`
	Pipeline   string `json:"pipeline,omitempty"`
	UUID       string `json:"step,omitempty"`
}

// EndedStep is how a step ended.
type EndedStep struct {
	Step
	// Result is the status in the runner's log line, such as PASSED; empty if not known.
	Result string `json:"result,omitempty"`
}

// Report is what the runner process does at one moment.
type Report struct {
	State runnerv1.RunnerState
	// Step is the step if State is BUSY, as far as it is known.
	Step Step
	// Ended is the step that has ended last; zero if none has.
	Ended EndedStep
	// Begun is the number of steps that the runner has begun.
	Begun uint32
	// Unrecognized is true if the format of the runner's log lines is not known.
	Unrecognized bool
}

// maxPending bounds the reports that are kept while there is no reader. The
// latest report matters most.
const maxPending = 64

// Reports passes each change of the report on to one reader, who may come and go.
// It is safe for concurrent use.
type Reports struct {
	// Changed receives a value when there is something to take.
	Changed chan struct{}

	mu      sync.Mutex
	latest  Report
	since   time.Time
	pending []Report
}

// NewReports returns Reports with a first report, which is not pending.
func NewReports(first Report) *Reports {
	return &Reports{Changed: make(chan struct{}, 1), latest: first, since: time.Now()}
}

// Put adds a report. A report equal to the latest one is no change.
func (r *Reports) Put(next Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if next == r.latest {
		return
	}
	r.latest, r.since = next, time.Now()
	r.push(next)
	if len(r.pending) > maxPending {
		r.pending = r.pending[1:]
	}
}

// Repeat makes the latest report pending again, for a reader who adds to it what
// else is known by now.
func (r *Reports) Repeat() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.push(r.latest)
}

// push adds a pending report. The caller holds the lock.
func (r *Reports) push(next Report) {
	r.pending = append(r.pending, next)
	select {
	case r.Changed <- struct{}{}:
	default:
	}
}

// Take returns the changes since the last Take, oldest first.
func (r *Reports) Take() []Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := r.pending
	r.pending = nil
	return pending
}

// Restart drops what the last reader did not take, and returns the latest report
// for a new reader to begin with.
func (r *Reports) Restart() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = nil
	return r.latest
}

// Latest returns the latest report.
func (r *Reports) Latest() Report {
	latest, _ := r.Age()
	return latest
}

// Age returns the latest report and the time since it was put.
func (r *Reports) Age() (Report, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest, time.Since(r.since)
}
