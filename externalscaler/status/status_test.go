package status_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
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
	s := status.New(w, w, w, func() time.Time { return now })
	return s.Handler(prometheus.NewRegistry(), func() bool { return ready })
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

func TestHealthAndReadiness(t *testing.T) {
	get(t, serve(world(), false), "/healthz", http.StatusOK)
	get(t, serve(world(), false), "/readyz", http.StatusServiceUnavailable)
	get(t, serve(world(), true), "/readyz", http.StatusOK)
	get(t, serve(world(), true), "/nothing", http.StatusNotFound)
}
