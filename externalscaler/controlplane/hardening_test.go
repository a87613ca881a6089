package controlplane_test

import (
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestStopThatWasLostIsTakenUpWhenTheSidecarAttachesAgain(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	var told *pod
	p.until("one to be stopped", func() bool {
		for _, d := range pods {
			if d.told() {
				told = d
			}
		}
		return told != nil
	})
	told.cancel() // as if the order had not come through
	told.stopped = make(chan struct{})
	told.attach(runnerv1.RunnerState_RUNNER_STATE_IDLE)
	p.until("the order to come again", told.told)
}

func TestPodThatWasToldToFinishNeverGetsARunner(t *testing.T) {
	p := start(t, quick(), map[string]string{"max": "1"})
	first, late := p.pod(p.group).online(), p.pod(p.group)
	if response, err := late.register(); err != nil || response.GetFinish() == nil {
		t.Fatalf("while the group is full: got %v, %v", response, err)
	}
	if _, err := p.wire.Deregister(first.ctx(), &runnerv1.DeregisterRequest{}); err != nil {
		t.Fatal(err)
	}
	if response, err := late.register(); err != nil || response.GetFinish() == nil {
		t.Errorf("after a place came free: got %v, %v, want it to finish", response, err)
	}
}

func TestRunnerWhoseStepAListThatLagsDoesNotShowIsNotStopped(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	p.faults(emulator.FaultRule{Method: "PUT", Path: "/internal/*/state", Status: 503})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("both to be listed", func() bool { return p.shown("builds").Runners["idle"] == 2 })
	settle(p, 25) // so that a list of 4 s ago shows both
	// From now on lists are old ones: they show neither that a runner is disabled
	// nor the step that it took just before, of which its process knows nothing yet.
	p.faults(emulator.FaultRule{Method: "GET", Path: "*/pipelines-config/runners", StaleFor: "4s"})
	disabled := func(d *pod) bool { return d.status() == "DISABLED" }
	p.until("one to be disabled", func() bool { return slices.ContainsFunc(pods, disabled) })
	retired := pods[slices.IndexFunc(pods, disabled)]
	retired.set("step", aStep)
	settle(p, 5)
	if retired.told() {
		t.Fatal("a runner was stopped with a step that the list was too old to show")
	}
	p.faults()
	p.until("the list to show its step", func() bool { return p.shown("builds").Runners["draining busy"] == 1 })
	retired.set("idle", "")
	p.until("it to be stopped once its step is done", retired.told)
}

func TestOrphanThatMustStayCostsNoCalls(t *testing.T) {
	p := start(t, quick(), nil)
	online, err := registerElsewhere(t, p, p.Owner())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Control.SetRunner(t.Context(), online, "online", ""); err != nil {
		t.Fatal(err)
	}
	settle(p, 10)
	for route, calls := range p.state().Counters.Calls {
		if strings.Contains(route, "/pipelines-config/runners/{") {
			t.Errorf("%s was called %d times for a runner that is ONLINE", route, calls)
		}
	}
}

func TestTwinOfALostRegistrationIsRemoved(t *testing.T) {
	p := start(t, quick(), nil)
	p.faults(emulator.FaultRule{Method: "POST", Path: "*/pipelines-config/runners", DropAfterWrite: true, ApplyAfter: "2s", Count: 1})
	d := p.pod(p.group)
	p.until("a registration that is answered", func() bool {
		response, err := d.register()
		return err == nil && response.GetRunner() != nil
	})
	d.attach(runnerv1.RunnerState_RUNNER_STATE_STARTING)
	d.set("online", "")
	d.report(runnerv1.RunnerState_RUNNER_STATE_IDLE, "")
	p.until("the first one to come late and to be removed", func() bool {
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
