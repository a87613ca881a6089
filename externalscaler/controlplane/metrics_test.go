package controlplane_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// shows waits until the metrics have all of these lines.
func (p *plane) shows(lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		p.until(line, func() bool { return strings.Contains(p.metrics(), "\n"+line+"\n") })
	}
}

func TestMetricsFollowARunnerThroughItsLife(t *testing.T) {
	p := start(t, quick(), map[string]string{"workspace": "acme"})
	group := fmt.Sprintf("namespace=%q,scaledjob=%q", p.group.Namespace, p.group.Name)
	const prefix = "bitbucket_runner_scaler_"
	p.shows(prefix+"runner_start_seconds_count{"+group+"} 0", prefix+`decisions_total{`+strings.Replace(group, ",", `,reason="CrashLoop",`, 1)+"} 0")
	d := p.pod(p.group).online()
	p.shows(prefix+"runner_start_seconds_count{"+group+"} 1", prefix+"attached_sidecars 1", prefix+`registrations_total{outcome="registered"} 1`)
	d.begun = 1
	d.report(runnerv1.RunnerState_RUNNER_STATE_BUSY, "{5}")
	p.shows(prefix + `runners{` + group + `,state="busy"} 1`)
	d.report(runnerv1.RunnerState_RUNNER_STATE_IDLE, "")
	p.shows(prefix + "step_duration_seconds_count{" + group + "} 1")
	d.report(runnerv1.RunnerState_RUNNER_STATE_ENDED, "")
	p.until("the runner to be deleted", func() bool {
		answer, err := p.runners.Deregister(d.ctx(), &runnerv1.DeregisterRequest{RunnerUuid: d.uuid})
		return err == nil && answer.GetGone()
	})
	p.shows(prefix+"runner_lifetime_seconds_count{"+group+"} 1", prefix+"runner_steps_sum{"+group+"} 1",
		prefix+`api_requests_total{code="204",credentials="default",method="DELETE",route="/2.0/workspaces/{workspace}/pipelines-config/runners/{runner_uuid}"} 1`)
	if _, err := p.metric(p.group); err != nil {
		t.Fatal(err)
	}
	p.shows(`grpc_server_handled_total{grpc_code="OK",grpc_method="GetMetrics",grpc_service="externalscaler.ExternalScaler",grpc_type="unary"} 1`)
}

func TestAStandbyCountsTheCallsThatItRefuses(t *testing.T) {
	config := quick()
	config.Election = standby{}
	p := start(t, config, map[string]string{"workspace": "acme"})
	if _, err := p.metric(p.group); err == nil {
		t.Fatal("a standby answers")
	}
	p.shows(`grpc_server_handled_total{grpc_code="Unavailable",grpc_method="GetMetrics",grpc_service="externalscaler.ExternalScaler",grpc_type="unary"} 1`)
}

// measured returns the metrics of a group by their names, without our prefix.
func (w *world) measured(group string) map[string]*dto.Metric {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://scaler/metrics", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := w.current().http.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]*dto.Metric{}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "scaledjob" && label.GetValue() == group {
					found[strings.TrimPrefix(name, "bitbucket_runner_scaler_")] = metric
				}
			}
		}
	}
	return found
}

// Six steps of four minutes on two runners, one of which is there.
func TestMetricsMeasureWaitsStartsAndStepsWithTheDefaults(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("builds", "w0", byQueue(map[string]string{"max": "2"}), works)
		w.after(10 * time.Minute)
		w.queue("w0", "builds", 6, 4*time.Minute)
		w.after(time.Hour)
		got := w.measured("builds")
		for name, want := range map[string]struct{ fewest, most, least, greatest float64 }{
			// The runner that is there may take a step before it is seen to wait.
			"step_wait_seconds":     {5, 6, 60, 600},
			"step_duration_seconds": {6, 6, 230, 250},
			"runner_start_seconds":  {2, 2, 20, 40},
			"runner_steps":          {1, 1, 1, 5},
		} {
			h := got[name].GetHistogram()
			count, mean := float64(h.GetSampleCount()), h.GetSampleSum()/float64(h.GetSampleCount())
			if count < want.fewest || count > want.most || mean < want.least || mean > want.greatest {
				t.Errorf("%s: %v times, %v in the mean; want %+v", name, count, mean, want)
			}
		}
		// Twelve minutes of steps and the cool-down of five.
		if atMax := got["at_max_seconds_total"].GetCounter().GetValue(); atMax < 12*60 || atMax > 19*60 {
			t.Errorf("at its maximum for %v s, want about 17 min", atMax)
		}
	})
}
