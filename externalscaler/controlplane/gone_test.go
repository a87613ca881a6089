package controlplane_test

import (
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// Bitbucket answers 404 also if the credentials may no longer see the workspace: its runners,
// which have credentials of their own, still take steps.
func TestRunnersOfAWorkspaceThatIsNotFoundAreLeftAlone(t *testing.T) {
	t.Parallel()
	virtually(t, 1, func(w *world) {
		group := w.apply("builds", "w0", map[string]string{"min": "2"}, works)
		time.Sleep(5 * time.Minute)
		w.faults(emulator.FaultRule{Path: "/2.0/*", Status: 404}, emulator.FaultRule{Path: "/internal/*", Status: 404})
		time.Sleep(time.Hour)
		if online, jobs := w.online("builds"), len(w.cluster.JobsOf(group.UID)); online != 2 || jobs != 2 {
			t.Errorf("%d runners and %d Jobs are left of 2, though they may take a step at any time", online, jobs)
		}
		if since := w.plane.Status().Groups()[0].NotFoundSince; since == nil || time.Since(*since) < 55*time.Minute {
			t.Errorf("/status shows that it is not found since %v", since)
		}
	})
}

func TestWithUnsafeScaleDownThePodsOfADeletedWorkspaceEndUnlessTheyAreBusy(t *testing.T) {
	config := shortLimits()
	config.UnsafeScaleDown = true
	config.GoneAfter, config.MaxStaleness = 2*time.Second, time.Second
	p := start(t, config, map[string]string{"min": "3"}) // so that none is surplus
	resting, working, silent := p.pod(p.group).online(), p.pod(p.group).online(), p.pod(p.group).online()
	working.runStep()
	p.until("all to be seen", func() bool { return p.counts("idle", 2)() && p.counts("busy", 1)() })
	silent.cancel()
	// An outage that answers 404 to every list, though the workspace is there.
	p.faults(emulator.FaultRule{Method: "GET", Path: "*/runners", Status: 404})
	p.until("it to be reported", func() bool { return p.hasEvent("ScopeNotFound") && p.shown("builds").NotFoundSince != nil })
	since := p.shown("builds").NotFoundSince
	p.until("the grace to pass", func() bool { return time.Since(*since) > 3*config.GoneAfter })
	if resting.stopOrdered() {
		t.Fatal("the idle one was stopped although the workspace is there")
	}
	p.faults()
	p.until("it to be found again", func() bool { return p.shown("builds").NotFoundSince == nil })
	if err := p.Control.ChangeWorkspace(t.Context(), "acme", emulator.ActionDelete, ""); err != nil {
		t.Fatal(err)
	}
	p.until("the idle one to be stopped", resting.stopOrdered)
	p.until("a while to pass", func() bool { return time.Since(*p.shown("builds").NotFoundSince) > 3*config.GoneAfter })
	if working.stopOrdered() || !p.hasJob(working) || !p.hasJob(silent) {
		t.Errorf("the busy one was stopped: %v, its Job deleted: %v, or that of the silent one: %v", working.stopOrdered(), !p.hasJob(working), !p.hasJob(silent))
	}
	said := 0
	for _, e := range p.Cluster.EventsSeen() {
		if e.Reason == "ScopeNotFound" && strings.Contains(e.Message, "Bitbucket has not known the workspace acme since") {
			said++
		}
	}
	if said != 2 { // one for each time
		t.Errorf("%d Events say what was not found, want 2", said)
	}
}
