package controlplane_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestACrashingGroupCostsItsNeighboursNothing(t *testing.T) {
	p := start(t, quick(), map[string]string{"max": "50"})
	healthy := p.apply("healthy", nil)
	p.until("the other group", func() bool { _, err := p.metric(healthy); return err == nil })
	waits := 0
	for range 20 { // as KEDA replaces each Job that has ended
		d := p.pod(p.group)
		_, err := d.register()
		if status.Code(err) == codes.ResourceExhausted {
			waits++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.runners.Deregister(d.ctx(), &runnerv1.DeregisterRequest{RunnerUuid: d.uuid}); err != nil {
			t.Fatal(err)
		}
		p.Cluster.FinishJob(d.job.UID, false)
	}
	posts := 0
	for route, calls := range p.state().Counters.Calls {
		if strings.HasPrefix(route, "POST ") && strings.HasSuffix(route, "/runners") {
			posts += calls
		}
	}
	if posts != 3 || waits != 17 {
		t.Errorf("%d registrations, %d waits of 20 pods whose runners end at once, want 3 and 17", posts, waits)
	}
	if !p.hasEvent("CrashLoop") {
		t.Errorf("the users are not told: %v", p.Cluster.EventsSeen())
	}
	if d := p.pod(healthy).online(); d.status() != "ONLINE" {
		t.Errorf("a runner of the other group is %s", d.status())
	}
}
