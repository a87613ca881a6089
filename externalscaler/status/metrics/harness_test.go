package metrics_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/registrar"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status/metrics"
	"bitbucket-runner-scaler/externalscaler/webhook"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

var now = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// world is all that the metrics read, in memory.
type world struct {
	standby bool
	known   []*fleet.GroupSnapshot
	faulty  map[fleet.GroupKey]error
	views   scope.Views
}

func (w *world) Observed() ([]*fleet.GroupSnapshot, map[fleet.GroupKey]error) {
	return w.known, w.faulty
}
func (w *world) Podless() []fleet.Podless       { return make([]fleet.Podless, 2) }
func (w *world) Unserved() []fleet.UnservedStep { return make([]fleet.UnservedStep, 1) }
func (w *world) Reused() int64                  { return 3 }
func (w *world) Views() scope.Views             { return w.views }
func (w *world) Counts() queue.Counts {
	return queue.Counts{Hints: 5, Dropped: 1, Predicted: 4, Contradicted: 1}
}

func (w *world) State(group *fleet.GroupSnapshot) crashloop.State {
	if group.Name != "well" {
		return crashloop.State{}
	}
	return crashloop.State{Failures: 4, Wait: 20 * time.Second}
}

func (w *world) Decide(key fleet.GroupKey) (policy.Decision, error) {
	if key.Name == "new" {
		return policy.Decision{}, errors.New("no current list of runners")
	}
	return policy.Decision{Desired: 3, Effective: 4, Target: 5, Reason: policy.ReasonScaleUp, Time: now}, nil
}

func (w *world) Tally(key fleet.GroupKey) policy.Tally {
	if key.Name == "new" {
		return policy.Tally{}
	}
	return policy.Tally{Changes: map[policy.Reason]int{policy.ReasonScaleUp: 7}, AtMax: 90 * time.Second}
}

// budget is a budget of which 900 calls are left.
type budget struct{}

func (budget) Limit() int       { return 1000 }
func (budget) Remaining() int   { return 900 }
func (budget) Stretch() float64 { return 1.5 }

func key(name string) fleet.GroupKey { return fleet.GroupKey{Namespace: "ns", Name: name} }

// someWorld has a group with a decision, one without a list yet, and a faulty one; and a scope
// with a list, under two spellings, and one without.
func someWorld() *world {
	acme := scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "acme"}}
	other := scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "other"}}
	view := &scope.View{ID: acme, Runners: make([]bitbucket.Runner, 40), ListBegun: now.Add(-30 * time.Second), Interval: time.Minute}
	rules := policy.Rules{Strategy: policy.QueuedSteps, Min: 1, Max: 8}
	return &world{
		known: []*fleet.GroupSnapshot{
			{
				GroupKey: key("well"), Scope: acme, Spec: runnergroup.Group{Rules: rules},
				Observation: policy.Observation{Idle: 1, Busy: 2, DrainingBusy: 1, Queued: 2, Predicted: 1, QueueUnknown: "throttled"},
				Members: []fleet.Member{
					{State: fleet.Idle}, {State: fleet.Pending, Job: &fleet.Job{Name: "a", Waits: fleet.Cause{Reason: "FailedCreate"}}},
					{State: fleet.Pending, Job: &fleet.Job{Name: "b"}, Pod: &fleet.Pod{Waits: fleet.Cause{Reason: "ImagePullBackOff"}}},
					{State: fleet.Pending, Job: &fleet.Job{Name: "c"}, Pod: &fleet.Pod{Waits: fleet.Cause{Reason: "ImagePullBackOff"}}},
					{State: fleet.Busy}, {State: fleet.Busy, Telemetry: fleet.Telemetry{Unrecognized: true}}, {State: fleet.DrainingBusy},
				},
			},
			{GroupKey: key("new"), Scope: other, Spec: runnergroup.Group{Rules: policy.Rules{Strategy: policy.Fixed, Min: 1, Max: 10, Count: 6}}},
		},
		faulty: map[fleet.GroupKey]error{key("faulty"): errors.New("labels: missing")},
		views: scope.Views{
			acme: view, other: {ID: other, Interval: time.Minute},
			{Credentials: "default", Scope: bitbucket.Scope{Workspace: "{acme}"}}: view,
		},
	}
}

// show registers the metrics of a world, of which everything is there, and returns what the parts
// count.
func show(t *testing.T, w *world) (*metrics.Metrics, *prometheus.Registry) {
	t.Helper()
	m, registry := metrics.New(registrar.Outcomes(), reaper.Removals()), prometheus.NewRegistry()
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	pb.RegisterExternalScalerServer(server, pb.UnimplementedExternalScalerServer{})
	runnerv1.RegisterRunnerServiceServer(server, runnerv1.UnimplementedRunnerServiceServer{})
	m.Serves(server)
	m.Register(registry, metrics.Sources{
		Version: "v1.2.3", Leads: func() bool { return !w.standby }, Fleet: w, Decisions: w, CrashLoops: w, Scopes: w, Queue: w,
		Budgets:  func() map[string]metrics.Budget { return map[string]metrics.Budget{"default": budget{}} },
		Sidecars: func() int { return 4 }, CertificateExpiry: func() time.Time { return time.Unix(1_800_000_000, 0) },
		Now: func() time.Time { return now },
	})
	metrics.NewWebhooks(registry, webhook.Events(), webhook.Outcomes(), func() map[string]time.Time {
		return map[string]time.Time{"team": time.Unix(1_800_000_000, 5e8), "quiet": {}}
	})
	return m, registry
}

func gather(t *testing.T, registry *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// series are the series of a registry in the form name{label="value"}, without our prefix, and
// with the number of observations as the value of a histogram.
func series(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for _, family := range gather(t, registry) {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			slices.Sort(labels)
			name := strings.TrimPrefix(family.GetName(), "bitbucket_runner_scaler_")
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			found[name] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return found
}

// check compares some series with what is wanted.
func check(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if shown, ok := got[name]; !ok || shown != value {
			t.Errorf("%s: got %v, shown: %v; want %v", name, shown, ok, value)
		}
	}
}
