package controlplane_test

import (
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestStopIsSentAgainWhenTheSidecarAttachesAgain(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	var lost *pod
	p.until("one to be stopped", func() bool {
		for _, d := range pods {
			if d.stopOrdered() {
				lost = d
			}
		}
		return lost != nil
	})
	lost.cancel() // as if the order had been lost
	lost.stopped = make(chan struct{})
	lost.attach(runnerv1.RunnerState_RUNNER_STATE_IDLE)
	p.until("the order to be sent again", lost.stopOrdered)
}

func TestPodThatWasOrderedToFinishNeverGetsARunner(t *testing.T) {
	p := start(t, quick(), map[string]string{"max": "1"})
	first, late := p.pod(p.group).online(), p.pod(p.group)
	if response, err := late.register(); err != nil || response.GetFinish() == nil {
		t.Fatalf("while the group is full: got %v, %v", response, err)
	}
	if _, err := p.runners.Deregister(first.ctx(), &runnerv1.DeregisterRequest{}); err != nil {
		t.Fatal(err)
	}
	if response, err := late.register(); err != nil || response.GetFinish() == nil {
		t.Errorf("after a place became free: got %v, %v, want it to finish", response, err)
	}
}

func TestRunnerWithAStepIsNotStoppedIfTheListIsStale(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	p.faults(emulator.FaultRule{Method: "PUT", Path: "/internal/*/state", Status: 503})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("both to be listed", func() bool { return p.shown("builds").Runners["idle"] == 2 })
	waitLists(p, 25) // so that a list of 4 s ago shows both
	// From now on lists are stale. They show neither that a runner is disabled nor the
	// step that it took just before. Its process does not know of the step yet either.
	p.faults(emulator.FaultRule{Method: "GET", Path: "*/pipelines-config/runners", StaleFor: "4s"})
	disabled := func(d *pod) bool { return d.status() == "DISABLED" }
	p.until("one to be disabled", func() bool { return slices.ContainsFunc(pods, disabled) })
	retired := pods[slices.IndexFunc(pods, disabled)]
	retired.set("step", aStep)
	waitLists(p, 5)
	if retired.stopOrdered() {
		t.Fatal("a runner was stopped although it has a step that the list does not show yet")
	}
	p.faults()
	p.until("the list to show its step", func() bool { return p.shown("builds").Runners["draining busy"] == 1 })
	retired.set("idle", "")
	p.until("it to be stopped after its step", retired.stopOrdered)
}

func TestOrphanThatMustStayCausesNoCalls(t *testing.T) {
	p := start(t, quick(), nil)
	online, err := registerElsewhere(t, p, p.Owner())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Control.SetRunner(t.Context(), online, "online", ""); err != nil {
		t.Fatal(err)
	}
	waitLists(p, 10)
	for route, calls := range p.state().Counters.Calls {
		if strings.Contains(route, "/pipelines-config/runners/{") {
			t.Errorf("%s was called %d times for a runner that is ONLINE", route, calls)
		}
	}
}

func TestDuplicateOfALostRegistrationIsRemoved(t *testing.T) {
	p := start(t, quick(), nil)
	p.faults(emulator.FaultRule{Method: "POST", Path: "*/pipelines-config/runners", DropAfterWrite: true, ApplyAfter: "2s", Count: 1})
	d := p.pod(p.group)
	p.until("an answered registration", func() bool {
		response, err := d.register()
		return err == nil && response.GetRunner() != nil
	})
	d.attach(runnerv1.RunnerState_RUNNER_STATE_STARTING)
	d.set("online", "")
	d.report(runnerv1.RunnerState_RUNNER_STATE_IDLE, "")
	p.until("the late first registration to be removed", func() bool {
		deleted, runners := 0, p.state().Runners
		for route, calls := range p.state().Counters.Calls {
			if strings.HasPrefix(route, "DELETE ") {
				deleted += calls
			}
		}
		return deleted == 1 && len(runners) == 1
	})
	if d.status() != "ONLINE" {
		t.Errorf("the pod's own runner is %q", d.status())
	}
}
