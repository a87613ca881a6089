package controlplane_test

import (
	"strings"
	"testing"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestBusyEphemeralRunnerIsDisabledOnceAnotherIsOnline(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "ephemeral": "true"})
	used := p.pod(p.group).online()
	used.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	waitLists(p, 5)
	if used.status() != "ONLINE" {
		t.Fatalf("the only runner online is %s", used.status())
	}
	fresh := p.pod(p.group).online()
	p.until("the used one to be disabled", func() bool { return used.status() == "DISABLED" })
	waitLists(p, 3)
	if used.stopOrdered() || fresh.status() != "ONLINE" {
		t.Errorf("the used one was stopped during its step: %v; the fresh one is %s", used.stopOrdered(), fresh.status())
	}
	used.endStep()
	p.until("the used one to be stopped after its step", used.stopOrdered)
}

func TestIdleEphemeralRunnerThatTookItsStepIsReplaced(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "2", "ephemeral": "true", "spare": "0"})
	used := p.pod(p.group).online()
	used.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	used.endStep()
	p.until("the metric to include a successor", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	waitLists(p, 3)
	if used.stopOrdered() || used.status() != "ONLINE" {
		t.Fatalf("the last one was ordered to stop: %v, it is %s", used.stopOrdered(), used.status())
	}
	p.pod(p.group).online()
	p.until("it to be stopped", used.stopOrdered)
}

// A control plane that starts after the step knows of it only from the sidecar.
func TestEphemeralRunnerThatTookItsStepBeforeTheStartIsReplaced(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "2", "ephemeral": "true", "spare": "0"})
	used := p.pod(p.group)
	used.begun = 1
	used.online()
	p.until("the metric to include a successor", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	p.pod(p.group).online()
	p.until("it to be stopped", used.stopOrdered)
}

func TestLastUsedEphemeralRunnerStaysEnabled(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "3", "ephemeral": "true", "spare": "0"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("all to be idle", p.counts("idle", 3))
	for _, d := range pods {
		d.runStep()
	}
	enabled := func() (n int) {
		for _, d := range pods {
			if d.status() == "ONLINE" {
				n++
			}
		}
		return n
	}
	p.until("all but one to be disabled", func() bool { return enabled() == 1 })
	waitLists(p, 5)
	if n := enabled(); n != 1 {
		t.Errorf("%d are enabled, want the last one", n)
	}
}

func TestOutdatedRunnersAreReplacedOneAtATimeAfterTheirSuccessor(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "2", "max": "5"})
	p.group = p.Cluster.Change(p.group.UID, "1", nil)
	old := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("both to be idle", p.counts("idle", 2))
	p.group = p.Cluster.Change(p.group.UID, "2", nil)
	stopped := func() (n int) {
		for _, d := range old {
			if d.stopOrdered() {
				n++
			}
		}
		return n
	}
	for i := range old {
		p.until("the metric to include one more", func() bool { n, err := p.metric(p.group); return err == nil && n == 3 })
		waitLists(p, 3)
		if n := stopped(); n != i {
			t.Fatalf("%d were stopped before the successor of the next is online, want %d", n, i)
		}
		successor := p.pod(p.group)
		waitLists(p, 3)
		if n, err := p.metric(p.group); err != nil || n != 3 {
			t.Fatalf("the metric is %d, %v, when the successor's Job is there; want 3 still", n, err)
		}
		successor.online()
		p.until("the old one to be stopped", func() bool { return stopped() == i+1 })
		for _, d := range old {
			if d.stopOrdered() && p.hasJob(d) {
				p.Cluster.FinishJob(d.job.UID, true)
			}
		}
	}
	p.until("the group to have its original size", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	p.until("the Event", func() bool { return p.hasEvent("Outdated") })
}

func TestRunnerIsManagedAfterItsGroupMovesToAnotherScope(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "3"})
	p.group = p.Cluster.Change(p.group.UID, "1", nil)
	d := p.pod(p.group).online()
	d.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	p.group = p.Cluster.Change(p.group.UID, "2", map[string]string{"repository": "app"})
	p.until("the group to have moved", func() bool { return strings.Contains(p.shown("builds").Scope, "app") })
	p.until("the runner in the old scope to be busy still", p.counts("busy", 1))
	p.until("the first list of the new scope", func() bool { _, err := p.metric(p.group); return err == nil })
	p.pod(p.group).online()
	waitLists(p, 5)
	if d.stopOrdered() || d.status() != "ONLINE" {
		t.Fatalf("the busy one was ordered to stop: %v, it is %s", d.stopOrdered(), d.status())
	}
	d.endStep()
	p.until("it to be stopped after its step", d.stopOrdered)
	if _, err := p.runners.Deregister(d.ctx(), &runnerv1.DeregisterRequest{RunnerUuid: d.uuid}); err != nil || d.status() != "" {
		t.Errorf("deregistered: %v, it is %q", err, d.status())
	}
}

func TestBusyOutdatedRunnerFinishesItsStep(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "3"})
	p.group = p.Cluster.Change(p.group.UID, "1", nil)
	d := p.pod(p.group).online()
	d.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	p.group = p.Cluster.Change(p.group.UID, "2", nil)
	p.pod(p.group).online()
	waitLists(p, 5)
	if d.stopOrdered() || d.status() != "ONLINE" {
		t.Errorf("it was ordered to stop: %v, it is %s", d.stopOrdered(), d.status())
	}
}

func TestOldRunnerIsStoppedBeforeItsSuccessorIfMaxLeavesNoRoom(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "1", "maxAge": "3s"})
	d := p.pod(p.group).online()
	p.until("it to be stopped", d.stopOrdered)
	p.until("the Event", func() bool { return p.hasEvent("MaxAge") })
}
