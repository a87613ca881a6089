package metrics_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"bitbucket-runner-scaler/externalscaler/policy"
)

func TestMetricsShowEachGroup(t *testing.T) {
	_, registry := show(t, someWorld())
	got := series(t, registry)
	check(t, got, map[string]float64{
		`desired_runners{namespace="ns",scaledjob="well"}`:                                                      3,
		`effective_runners{namespace="ns",scaledjob="well"}`:                                                    4,
		`target_jobs{namespace="ns",scaledjob="well"}`:                                                          5,
		`min_runners{namespace="ns",scaledjob="well"}`:                                                          1,
		`max_runners{namespace="ns",scaledjob="well"}`:                                                          8,
		`max_runners{namespace="ns",scaledjob="new"}`:                                                           6,
		`runners{namespace="ns",scaledjob="well",state="busy"}`:                                                 2,
		`runners{namespace="ns",scaledjob="well",state="draining_busy"}`:                                        1,
		`runners{namespace="ns",scaledjob="well",state="lost"}`:                                                 0,
		`runners{namespace="ns",scaledjob="new",state="idle"}`:                                                  0,
		`online_runners{namespace="ns",scaledjob="well"}`:                                                       4,
		`waiting_jobs{namespace="ns",reason="ImagePullBackOff",scaledjob="well"}`:                               2,
		`waiting_jobs{namespace="ns",reason="FailedCreate",scaledjob="well"}`:                                   1,
		`unrecognized_output{namespace="ns",scaledjob="well"}`:                                                  1,
		`group_faulty{namespace="ns",scaledjob="well"}`:                                                         0,
		`group_faulty{namespace="ns",scaledjob="new"}`:                                                          1,
		`group_faulty{namespace="ns",scaledjob="faulty"}`:                                                       1,
		`group_failures{namespace="ns",scaledjob="well"}`:                                                       4,
		`group_failures{namespace="ns",scaledjob="new"}`:                                                        0,
		`group_back_off_seconds{namespace="ns",scaledjob="well"}`:                                               20,
		`decisions_total{namespace="ns",reason="ScaleUp",scaledjob="well"}`:                                     7,
		`decisions_total{namespace="ns",reason="AboveMax",scaledjob="well"}`:                                    0,
		`at_max_seconds_total{namespace="ns",scaledjob="well"}`:                                                 90,
		`group_info{credentials="default",namespace="ns",scaledjob="well",scope="acme",strategy="queuedSteps"}`: 1,
		`queued_steps{namespace="ns",scaledjob="well"}`:                                                         2,
		`predicted_steps{namespace="ns",scaledjob="well"}`:                                                      1,
		`queue_unknown{namespace="ns",scaledjob="well"}`:                                                        1,
		`step_wait_seconds{namespace="ns",scaledjob="well"}`:                                                    0,
		`runner_steps{namespace="ns",scaledjob="new"}`:                                                          0,
	})
	for _, unwanted := range []string{
		`desired_runners{namespace="ns",scaledjob="new"}`, `target_jobs{namespace="ns",scaledjob="faulty"}`, `queued_steps{namespace="ns",scaledjob="new"}`,
		`step_wait_seconds{namespace="ns",scaledjob="new"}`,
	} {
		if _, shown := got[unwanted]; shown {
			t.Errorf("%s is shown, although it is not known", unwanted)
		}
	}
}

func TestMetricsShowScopesAndTheProcess(t *testing.T) {
	m, registry := show(t, someWorld())
	m.Registration("registered")
	m.Removal("Surplus")
	m.Call("default", "GET", "/2.0/workspaces/{workspace}", 200, time.Second)
	got := series(t, registry)
	check(t, got, map[string]float64{
		`scope_registered_runners{credentials="default",scope="acme"}`: 40,
		`scope_room{credentials="default",scope="acme"}`:               60,
		`list_age_seconds{credentials="default",scope="acme"}`:         30,
		`list_age_seconds{credentials="default",scope="other"}`:        math.Inf(1),
		`list_interval_seconds{credentials="default",scope="other"}`:   60,
		`registrations_total{outcome="registered"}`:                    1,
		`registrations_total{outcome="no_room"}`:                       0,
		`removals_total{reason="Surplus"}`:                             1,
		`removals_total{reason="Orphan"}`:                              0,
		`orphaned_runners`:                                             2,
		`runners_reused_total`:                                         3,
		`attached_sidecars`:                                            4,
		`unserved_steps`:                                               1,
		`hints_total{outcome="taken"}`:                                 5,
		`hints_total{outcome="dropped"}`:                               1,
		`predictions_total{outcome="not_contradicted"}`:                3,
		`predictions_total{outcome="contradicted"}`:                    1,
		`api_budget{credentials="default"}`:                            1000,
		`api_budget_remaining{credentials="default"}`:                  900,
		`list_stretch_factor{credentials="default"}`:                   1.5,
		`api_requests_total{code="200",credentials="default",method="GET",route="/2.0/workspaces/{workspace}"}`: 1,
		`api_request_duration_seconds{method="GET",route="/2.0/workspaces/{workspace}"}`:                        1,
		`leader`:                               1,
		`certificate_expiry_timestamp_seconds`: 1_800_000_000,
		`grpc_server_handled_total{grpc_code="Unavailable",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"}`: 0,
	})
	for name := range got {
		if strings.Contains(name, `scope="{acme}"`) {
			t.Errorf("%s: a scope is shown under two spellings", name)
		}
	}
}

func TestAStandbyShowsNoGroups(t *testing.T) {
	w := someWorld()
	m, registry := show(t, w)
	m.CameOnline(key("well"), time.Minute)
	w.standby = true
	got := series(t, registry)
	check(t, got, map[string]float64{`leader`: 0, `registrations_total{outcome="registered"}`: 0, `attached_sidecars`: 4})
	for name := range got {
		if strings.Contains(name, "scaledjob") || strings.Contains(name, "scope=") || strings.HasPrefix(name, "api_budget") {
			t.Errorf("%s is shown by a standby", name)
		}
	}
}

func TestHistogramsOfAGroupEndWithTheGroup(t *testing.T) {
	w := someWorld()
	m, registry := show(t, w)
	m.Waited("ns", "well", 3*time.Second)
	m.CameOnline(key("well"), 40*time.Second)
	m.StepRan(key("well"), time.Minute)
	m.Lived(key("well"), time.Hour)
	m.Ran(key("well"), 3)
	for _, name := range []string{"step_wait_seconds", "runner_start_seconds", "step_duration_seconds", "runner_lifetime_seconds", "runner_steps"} {
		check(t, series(t, registry), map[string]float64{name + `{namespace="ns",scaledjob="well"}`: 1})
	}
	w.known = w.known[1:]
	m.CameOnline(key("stranger"), time.Second)
	for name := range series(t, registry) {
		if strings.Contains(name, `scaledjob="well"`) || strings.Contains(name, `scaledjob="stranger"`) {
			t.Errorf("%s is shown of a group that is gone", name)
		}
	}
	w.known = someWorld().known
	check(t, series(t, registry), map[string]float64{`runner_start_seconds{namespace="ns",scaledjob="well"}`: 0})
}

func TestNamesFollowTheConventions(t *testing.T) {
	_, registry := show(t, someWorld())
	problems, err := promlint.NewWithMetricFamilies(gather(t, registry)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestEachReasonIsShown(t *testing.T) {
	_, registry := show(t, someWorld())
	got := series(t, registry)
	for _, reason := range policy.Reasons() {
		if _, shown := got[`decisions_total{namespace="ns",reason="`+string(reason)+`",scaledjob="new"}`]; !shown {
			t.Errorf("%s is not shown before the first decision", reason)
		}
	}
}
