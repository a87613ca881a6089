// Package status shows the control plane to operators over HTTP: each runner group with
// its runners by state and its last decision, as JSON. It only reads. Package metrics
// shows the same to Prometheus.
package status

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// Group is one runner group as /status shows it.
type Group struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Scope     string `json:"scope"`
	// Error says why no decision can be made. It is empty if there is a decision.
	Error string `json:"error,omitempty"`
	// NotFoundSince is since when Bitbucket has not known the scope. It is left out if it
	// does.
	NotFoundSince *time.Time `json:"scopeNotFoundSince,omitempty"`
	// ListAge is the age of the list of runners that the other fields are based on, in
	// seconds.
	ListAge float64 `json:"listAgeSeconds"`
	// ListInterval is the time between two lists that is in force, in seconds. It grows
	// if the scopes of a credentials set need more lists than the hourly budget allows.
	ListInterval float64 `json:"listIntervalSeconds"`
	// Runners counts the runners by state.
	Runners map[string]int `json:"runners"`
	// Unrecognized counts the members whose runner's output is not recognized.
	Unrecognized int       `json:"unrecognizedOutput,omitempty"`
	Desired      int       `json:"desired"`
	Target       int       `json:"target"`
	Reason       string    `json:"reason"`
	Note         string    `json:"note"`
	Decided      time.Time `json:"decidedOn"`
	Hold         string    `json:"scaleDownHeld,omitempty"`
	// Waiting are the reasons why Jobs of the group do not come to a runner.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Queue is what waits for the group's runners. It is left out of groups that do not scale by
	// it.
	Queue *Queue `json:"queue,omitempty"`
	// CrashLoop is set while the group's Jobs keep failing.
	CrashLoop *CrashLoop `json:"crashLoop,omitempty"`
}

// Waiting is why some Jobs of a group do not come to a runner.
type Waiting struct {
	// Reason is Kubernetes' own. Message and Job are of the first of the Jobs.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
	Job     string `json:"job"`
	Jobs    int    `json:"jobs"`
}

// CrashLoop is why the Jobs of a group keep failing, and when the next one is tried.
type CrashLoop struct {
	// Failures is how many Jobs in a row failed.
	Failures int `json:"failures"`
	// Reason, Message and LastLine are of the last one, as far as known. LastLine is the
	// last line of its runner's log.
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	LastLine string `json:"lastLine,omitempty"`
	// Wait is how long no other Job is wanted, in seconds.
	Wait float64 `json:"waitSeconds"`
}

// Fleet provides the observed groups.
type Fleet interface {
	// Observed returns all groups as of one moment: those with a snapshot, and why
	// others have none.
	Observed() (valid []*fleet.GroupSnapshot, faulty map[fleet.GroupKey]error)
}

// Decider decides how many runners a group should have.
type Decider interface {
	Decide(key fleet.GroupKey) (policy.Decision, error)
}

// CrashLoops knows which groups' Jobs keep failing.
type CrashLoops interface {
	State(group *fleet.GroupSnapshot) crashloop.State
}

// Status shows a fleet and its decisions.
type Status struct {
	fleet     Fleet
	decisions Decider
	crashes   CrashLoops
	now       func() time.Time
}

// New returns a Status.
func New(fleet Fleet, decisions Decider, crashes CrashLoops, now func() time.Time) *Status {
	return &Status{fleet: fleet, decisions: decisions, crashes: crashes, now: now}
}

// Groups returns the current state of all groups, sorted by namespace and name.
func (s *Status) Groups() []Group {
	known, faulty := s.fleet.Observed()
	groups := make([]Group, 0, len(known)+len(faulty))
	for _, g := range known {
		groups = append(groups, s.group(g))
	}
	for key, err := range faulty {
		groups = append(groups, Group{Namespace: key.Namespace, Name: key.Name, Error: err.Error(), Runners: map[string]int{}})
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return groups
}

func (s *Status) group(g *fleet.GroupSnapshot) Group {
	shown := Group{
		Namespace: g.Namespace, Name: g.Name, Scope: g.Scope.String(), Hold: g.Hold,
		ListAge: s.now().Sub(g.ListBegun).Seconds(), ListInterval: g.ListInterval.Seconds(),
		Runners: map[string]int{}, Waiting: waiting(g.Members),
	}
	if state := s.crashes.State(g); state.Loops() {
		shown.CrashLoop = &CrashLoop{
			Failures: state.Failures, Reason: state.Cause.Reason, Message: state.Cause.Message, LastLine: state.LastLine, Wait: state.Wait.Seconds(),
		}
	}
	if g.Spec.Rules.Strategy == policy.QueuedSteps {
		shown.Queue = queueOf(g)
	}
	if since := g.NotFound.Since; !since.IsZero() {
		shown.NotFoundSince = &since
	}
	for _, m := range g.Members {
		shown.Runners[m.State.String()]++
		if m.Telemetry.Unrecognized {
			shown.Unrecognized++
		}
	}
	var decision policy.Decision
	decision, err := s.decisions.Decide(g.GroupKey)
	if err != nil {
		shown.Error = err.Error()
		if g.ListBegun.IsZero() {
			shown.ListAge = 0
		}
		return shown
	}
	shown.Desired, shown.Target, shown.Decided = decision.Effective, decision.Target, decision.Time
	shown.Reason, shown.Note = string(decision.Reason), decision.Note
	return shown
}

// waiting returns why members do not come to a runner, in the order of the reasons.
func waiting(members []fleet.Member) (all []Waiting) {
	for _, m := range members {
		cause := m.Waits()
		if cause.Reason == "" {
			continue
		}
		at, known := slices.BinarySearchFunc(all, cause.Reason, func(w Waiting, reason string) int { return cmp.Compare(w.Reason, reason) })
		if !known {
			all = slices.Insert(all, at, Waiting{Reason: cause.Reason, Message: cause.Message, Job: m.Job.Name})
		}
		all[at].Jobs++
	}
	return all
}

// Handler serves /healthz, /readyz, /metrics and /status. /readyz fails until ready
// returns true.
func (s *Status) Handler(registry *prometheus.Registry, ready func() bool) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(s.Groups()) // it fails if the reader disconnects
	})
	return mux
}
