package simulate

import (
	"slices"
	"time"
)

// Sample is what there was at some time.
type Sample struct {
	At time.Time `json:"at"`
	// Waiting steps, busy and online runners, Jobs, and how many runners were wanted. Each is the
	// most within the time since the sample before.
	Waiting int `json:"waiting"`
	Busy    int `json:"busy"`
	Online  int `json:"online"`
	Jobs    int `json:"jobs"`
	Desired int `json:"desired"`
}

// Wait are percentiles of the time from when a step could start until it began.
type Wait struct {
	P50 time.Duration `json:"p50"`
	P90 time.Duration `json:"p90"`
	P95 time.Duration `json:"p95"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// Result is what came of a simulation.
type Result struct {
	Name string
	// Steps are all. Done were successful. Failed found no runner online, Killed were lost with their
	// runners, and NotRun came after one of those.
	Steps, Done, Failed, Killed, NotRun int
	Wait                                Wait
	// Waits are those of all steps that began, sorted.
	Waits []time.Duration
	// RunnerTime is how long Jobs existed, and IdleTime how long runners were online without a step.
	RunnerTime, IdleTime time.Duration
	Cost                 float64
	// Unserved are those of Failed whose labels no group serves.
	Unserved int
	// Calls to Bitbucket by purpose, and the most within an hour.
	Calls        map[string]int
	CallsPerHour int
	// Runners is how many Jobs there were, and Peak the most at one time.
	Runners, Peak int
	// Elapsed is the time that was looked at.
	Elapsed time.Duration
	Samples []Sample
}

// AllCalls is the sum of the calls.
func (r Result) AllCalls() (n int) {
	for _, calls := range r.Calls {
		n += calls
	}
	return n
}

// measured measures a world.
type measured struct {
	// What there is now.
	waiting, idle, busy, jobs, desired int
	// What was until now.
	done, failed, killed, notRun, peak int
	unserved                           int
	waits                              []time.Duration
	idleTime, runnerTime               int64
	calls                              map[string]int
	hours                              map[int64]int // all calls of each hour
	// begin and last bound what is measured so far, in nanoseconds since the epoch.
	begin, last int64
	end         int64
	// most is the most since the last sample, and every the time between two.
	most       Sample
	every      int64
	nextSample int64
	samples    []Sample
}

func newMeasured(start, end time.Time, samples int) measured {
	m := measured{begin: start.UnixNano(), end: end.UnixNano(), last: start.UnixNano(), calls: map[string]int{}, hours: map[int64]int{}}
	if samples > 0 {
		m.every = max(1, end.Sub(start).Nanoseconds()/int64(samples))
		m.nextSample = m.begin
	}
	return m
}

// call counts calls to Bitbucket.
func (m *measured) call(purpose string, n int) {
	if m.last > m.begin {
		m.calls[purpose] += n
		m.hours[(m.last-m.begin)/int64(time.Hour)] += n
	}
}

// pass measures the time until the next event.
func (m *measured) pass(at int64) {
	if m.every > 0 {
		m.most.Waiting, m.most.Busy, m.most.Jobs = max(m.most.Waiting, m.waiting), max(m.most.Busy, m.busy), max(m.most.Jobs, m.jobs)
		m.most.Online, m.most.Desired = max(m.most.Online, m.busy+m.idle), max(m.most.Desired, m.desired)
		for ; m.nextSample <= at && m.nextSample >= m.begin; m.nextSample += m.every {
			m.most.At = time.Unix(0, m.nextSample).UTC()
			m.samples = append(m.samples, m.most)
			m.most = Sample{Waiting: m.waiting, Busy: m.busy, Online: m.busy + m.idle, Jobs: m.jobs, Desired: m.desired}
		}
	}
	if at <= m.last {
		return
	}
	passed := at - m.last
	m.idleTime += passed * int64(m.idle)
	m.runnerTime += passed * int64(m.jobs)
	m.peak = max(m.peak, m.jobs)
	m.last = at
}

func (w *world) result(name string) Result {
	m := &w.measured
	slices.Sort(m.waits)
	r := Result{
		Name: name, Steps: w.load.Steps(), Done: m.done, Failed: m.failed, Killed: m.killed, NotRun: m.notRun, Unserved: m.unserved, Waits: m.waits, Wait: percentiles(m.waits),
		RunnerTime: time.Duration(m.runnerTime), IdleTime: time.Duration(m.idleTime), Calls: m.calls, Runners: w.launched, Peak: m.peak,
		Elapsed: time.Duration(m.last - m.begin), Samples: m.samples,
	}
	for _, calls := range m.hours {
		r.CallsPerHour = max(r.CallsPerHour, calls)
	}
	r.Cost = r.RunnerTime.Hours() * w.Price
	return r
}

// percentiles returns those of sorted durations.
func percentiles(sorted []time.Duration) Wait {
	if len(sorted) == 0 {
		return Wait{}
	}
	at := func(percent int) time.Duration { return sorted[(len(sorted)*percent+99)/100-1] }
	return Wait{P50: at(50), P90: at(90), P95: at(95), P99: at(99), Max: sorted[len(sorted)-1]}
}
