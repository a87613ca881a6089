package status_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/status/metrics"
)

var now = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// groups is a fleet with decisions.
type groups struct {
	known   []*fleet.GroupSnapshot
	faulty  map[fleet.GroupKey]error
	decided map[fleet.GroupKey]policy.Decision
}

var errUndecided = errors.New("no current list of runners")

func (g groups) Observed() ([]*fleet.GroupSnapshot, map[fleet.GroupKey]error) {
	return g.known, g.faulty
}
func (g groups) Reused() int64 { return 3 }
func (g groups) Unserved() []fleet.UnservedStep {
	return []fleet.UnservedStep{{Step: queue.Step{In: "app", Build: 7, Name: "Test"}}}
}
func (g groups) State(group *fleet.GroupSnapshot) crashloop.State {
	if group.Name != "well" {
		return crashloop.State{}
	}
	return crashloop.State{Failures: 4, Cause: fleet.Cause{Reason: "OOMKilled", Message: "exit code 137"}, LastLine: "bye", Wait: 20 * time.Second}
}
func (g groups) Decide(key fleet.GroupKey) (policy.Decision, error) {
	if d, ok := g.decided[key]; ok {
		return d, nil
	}
	return policy.Decision{}, errUndecided
}

func key(name string) fleet.GroupKey { return fleet.GroupKey{Namespace: "ns", Name: name} }

// world returns a group with a decision, one without a list yet, and a faulty one.
func world() groups {
	acme := scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "acme"}}
	return groups{
		known: []*fleet.GroupSnapshot{
			{GroupKey: key("well"), Spec: runnergroup.Group{Rules: policy.Rules{Strategy: policy.QueuedSteps}},
				Observation: policy.Observation{Queued: 2, Predicted: 1, QueueUnknown: "throttled"},
				Waiting: []queue.Step{
					{StepID: queue.StepID{Step: "{s}"}, In: "app", Build: 6, Name: "Build", Labels: []string{"self.hosted", "x"}, Since: now}, {In: "app", Build: 6, Expected: now},
				}, Scope: acme, ListBegun: now.Add(-30 * time.Second), ListInterval: time.Minute, Hold: "paused", Members: []fleet.Member{
					{State: fleet.Idle}, {State: fleet.Pending, Job: &fleet.Job{Name: "a", Waits: fleet.Cause{Reason: "FailedCreate", Message: "quota"}}},
					{State: fleet.Pending, Job: &fleet.Job{Name: "b"}, Pod: &fleet.Pod{Waits: fleet.Cause{Reason: "ImagePullBackOff"}}},
					{State: fleet.Pending, Job: &fleet.Job{Name: "c"}, Pod: &fleet.Pod{Waits: fleet.Cause{Reason: "ImagePullBackOff"}}}, {State: fleet.Busy}, {State: fleet.Busy, Telemetry: fleet.Telemetry{Unrecognized: true}},
				}},
			{GroupKey: key("new"), Scope: acme},
		},
		faulty:  map[fleet.GroupKey]error{key("faulty"): errors.New("labels: missing")},
		decided: map[fleet.GroupKey]policy.Decision{key("well"): {Effective: 4, Target: 5, Reason: policy.ReasonScaleUp, Note: "why", Time: now}},
	}
}

// serve returns the handler for a world.
func serve(w groups, ready bool) http.Handler {
	registry := prometheus.NewRegistry()
	s := status.New(w, w, w, func() time.Time { return now })
	m := metrics.New(registry, s, func() map[string]int { return map[string]int{"default": 900} })
	metrics.NewQueue(registry, s, func() queue.Counts { return queue.Counts{Hints: 5, Dropped: 1, Predicted: 4, Contradicted: 1} })
	m.Registration("registered")
	m.Removal("Surplus")
	m.Call("GET", "/2.0/workspaces/{workspace}", 200, time.Second)
	return s.Handler(registry, func() bool { return ready })
}

func get(t *testing.T, handler http.Handler, path string, want int) string {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	if answer.Code != want {
		t.Errorf("%s: got %d, want %d", path, answer.Code, want)
	}
	return answer.Body.String()
}

func TestStatusShowsEachGroupWithItsDecision(t *testing.T) {
	var got []status.Group
	if err := json.Unmarshal([]byte(get(t, serve(world(), true), "/status", http.StatusOK)), &got); err != nil {
		t.Fatal(err)
	}
	want := []status.Group{
		{Namespace: "ns", Name: "faulty", Error: "labels: missing", Runners: map[string]int{}},
		{Namespace: "ns", Name: "new", Scope: "acme", Error: errUndecided.Error(), Runners: map[string]int{}},
		{
			Namespace: "ns", Name: "well", Scope: "acme", ListAge: 30, ListInterval: 60, Runners: map[string]int{"idle": 1, "busy": 2, "pending": 3}, Unrecognized: 1,
			Desired: 4, Target: 5, Reason: "ScaleUp", Note: "why", Decided: now, Hold: "paused",
			Waiting: []status.Waiting{{Reason: "FailedCreate", Message: "quota", Job: "a", Jobs: 1}, {Reason: "ImagePullBackOff", Job: "b", Jobs: 2}},
			Queue: &status.Queue{Queued: 2, Predicted: 1, Unknown: "throttled", Steps: []status.Step{
				{Repository: "app", Build: 6, Name: "Build", UUID: "{s}", Labels: []string{"self.hosted", "x"}, Since: &now}, {Repository: "app", Build: 6, Expected: &now},
			}},
			CrashLoop: &status.CrashLoop{Failures: 4, Reason: "OOMKilled", Message: "exit code 137", LastLine: "bye", Wait: 20},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestMetricsShowEachGroup(t *testing.T) {
	got := get(t, serve(world(), true), "/metrics", http.StatusOK)
	for _, want := range []string{
		`desired_runners{namespace="ns",scaledjob="well"} 4`,
		`target_jobs{namespace="ns",scaledjob="well"} 5`,
		`runners{namespace="ns",scaledjob="well",state="busy"} 2`,
		`list_age_seconds{namespace="ns",scaledjob="well"} 30`,
		`list_interval_seconds{namespace="ns",scaledjob="well"} 60`,
		`group_failures{namespace="ns",scaledjob="well"} 4`,
		`group_back_off_seconds{namespace="ns",scaledjob="well"} 20`,
		`group_failures{namespace="ns",scaledjob="new"} 0`,
		`waiting_jobs{namespace="ns",reason="ImagePullBackOff",scaledjob="well"} 2`,
		`unrecognized_output{namespace="ns",scaledjob="well"} 1`,
		`group_faulty{namespace="ns",scaledjob="well"} 0`,
		`group_faulty{namespace="ns",scaledjob="new"} 1`,
		`group_faulty{namespace="ns",scaledjob="faulty"} 1`,
		`registrations_total{outcome="registered"} 1`,
		`removals_total{reason="Surplus"} 1`,
		`runners_reused_total 3`,
		`queued_steps{namespace="ns",scaledjob="well"} 2`,
		`predicted_steps{namespace="ns",scaledjob="well"} 1`,
		`queue_unknown{namespace="ns",scaledjob="well"} 1`,
		`unserved_steps 1`,
		`hints_total{outcome="taken"} 5`,
		`hints_total{outcome="dropped"} 1`,
		`predictions_total{outcome="not_contradicted"} 3`,
		`predictions_total{outcome="contradicted"} 1`,
		`api_budget_remaining{credentials="default"} 900`,
		`api_request_duration_seconds_count{method="GET",route="/2.0/workspaces/{workspace}",status="200"} 1`,
	} {
		if !strings.Contains(got, "bitbucket_runner_scaler_"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	for _, unwanted := range []string{`desired_runners{namespace="ns",scaledjob="new"}`, `target_jobs{namespace="ns",scaledjob="faulty"}`} {
		if strings.Contains(got, unwanted) {
			t.Errorf("%s is shown, although there is no decision", unwanted)
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	get(t, serve(world(), false), "/healthz", http.StatusOK)
	get(t, serve(world(), false), "/readyz", http.StatusServiceUnavailable)
	get(t, serve(world(), true), "/readyz", http.StatusOK)
	if got := get(t, serve(world(), true), "/", http.StatusOK); !strings.Contains(got, "/status") {
		t.Errorf("the start page has no link to /status: %q", got)
	}
	get(t, serve(world(), true), "/nothing", http.StatusNotFound)
}
