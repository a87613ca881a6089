package metrics

import (
	"math"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// Fleet provides the observed groups and runners.
type Fleet interface {
	// Observed returns all groups as of one moment: those with a snapshot, and why others have
	// none.
	Observed() (valid []*fleet.GroupSnapshot, faulty map[fleet.GroupKey]error)
	// Podless are our runners that no known pod is named after.
	Podless() []fleet.Podless
	// Unserved returns the steps that ask for a runner and that no known runner serves.
	Unserved() []fleet.UnservedStep
	// Reused counts the runners of ephemeral groups that took another step.
	Reused() int64
}

// Decisions knows how many runners each group should have.
type Decisions interface {
	Decide(key fleet.GroupKey) (policy.Decision, error)
	// Tally counts the group's decisions so far.
	Tally(key fleet.GroupKey) policy.Tally
}

// Budget is the hourly budget of a credentials set.
type Budget interface {
	Limit() int
	Remaining() int
	// Stretch returns the factor by which lists are read less often than configured.
	Stretch() float64
}

// Sources are what is read at each scrape.
type Sources struct {
	Version string
	// Leads reports whether this process leads. If it does not, it knows nothing of groups.
	Leads      func() bool
	Fleet      Fleet
	Decisions  Decisions
	CrashLoops interface {
		State(group *fleet.GroupSnapshot) crashloop.State
	}
	Scopes interface{ Views() scope.Views }
	// Budgets returns the budget of each credentials set.
	Budgets func() map[string]Budget
	Queue   interface{ Counts() queue.Counts }
	// Sidecars counts the attached ones.
	Sidecars func() int
	// CertificateExpiry returns when the served certificate expires, zero if there is none. It
	// is nil without TLS.
	CertificateExpiry func() time.Time
	// Now returns the time.
	Now func() time.Time
}

// reader reads the sources at each scrape.
type reader struct {
	Sources
	histograms *groupHistograms
}

// Describe implements prometheus.Collector. It describes nothing, because which metrics are shown
// depends on the sources.
func (r *reader) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *reader) Collect(ch chan<- prometheus.Metric) {
	s := sender{ch}
	leading := r.Leads()
	s.flag(leads, leading)
	s.send(buildInfo, 1, r.Version, runtime.Version())
	s.send(sidecars, float64(r.Sidecars()))
	if r.CertificateExpiry != nil {
		s.timestamp(certificate, r.CertificateExpiry())
	}
	if !leading {
		return // what is known of groups may be old by now
	}
	r.groups(s)
	r.scopes(s)
	for name, b := range r.Budgets() {
		s.send(budget, float64(b.Limit()), name)
		s.send(budgetLeft, float64(b.Remaining()), name)
		s.send(stretch, b.Stretch(), name)
	}
	counts := r.Queue.Counts()
	s.send(hints, float64(counts.Hints), "taken")
	s.send(hints, float64(counts.Dropped), "dropped")
	s.send(predictions, float64(counts.Predicted-counts.Contradicted), "not_contradicted")
	s.send(predictions, float64(counts.Contradicted), "contradicted")
	s.send(unserved, float64(len(r.Fleet.Unserved())))
	s.send(orphans, float64(len(r.Fleet.Podless())))
	s.send(reused, float64(r.Fleet.Reused()))
}

func (r *reader) scopes(s sender) {
	for id, view := range r.Scopes.Views() {
		if id != view.ID {
			continue // an alias
		}
		listAge := math.Inf(1)
		if !view.ListBegun.IsZero() {
			listAge = r.Now().Sub(view.ListBegun).Seconds()
			s.send(registered, float64(len(view.Runners)), id.Credentials, id.String())
			s.send(room, float64(max(0, policy.ScopeLimit-len(view.Runners))), id.Credentials, id.String())
		}
		s.send(age, listAge, id.Credentials, id.String())
		s.send(interval, view.Interval.Seconds(), id.Credentials, id.String())
	}
}

// sender sends values to a scrape.
type sender struct{ ch chan<- prometheus.Metric }

func (s sender) send(m *Metric, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if m.Type == "counter" {
		kind = prometheus.CounterValue
	}
	s.ch <- prometheus.MustNewConstMetric(m.desc, kind, value, labels...)
}

func (s sender) flag(m *Metric, set bool, labels ...string) {
	value := 0.0
	if set {
		value = 1
	}
	s.send(m, value, labels...)
}

func (s sender) timestamp(m *Metric, at time.Time, labels ...string) {
	seconds := 0.0
	if !at.IsZero() {
		seconds = float64(at.UnixMilli()) / 1000
	}
	s.send(m, seconds, labels...)
}
