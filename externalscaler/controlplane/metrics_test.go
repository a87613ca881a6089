package controlplane_test

import (
	"fmt"
	"strings"
	"testing"

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
