package controlplane_test

import (
	"strings"
	"testing"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestEphemeralRunnerIsDisabledOnceAnotherCanTakeTheNextStep(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "ephemeral": "true"})
	used := p.pod(p.group).online()
	used.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	settle(p, 5)
	if used.status() != "ONLINE" {
		t.Fatalf("the last runner is %s while it is the last", used.status())
	}
	fresh := p.pod(p.group).online()
	p.until("the used one to be disabled", func() bool { return used.status() == "DISABLED" })
	settle(p, 3)
	if used.told() || fresh.status() != "ONLINE" {
		t.Errorf("the used one was stopped in its step: %v; the fresh one is %s", used.told(), fresh.status())
	}
	used.endStep()
	p.until("the used one to be stopped after its step", used.told)
}

func TestIdleEphemeralRunnerThatTookItsStepIsReplaced(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "2", "ephemeral": "true", "spare": "0"})
	used := p.pod(p.group).online()
	used.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	used.endStep()
	p.until("KEDA to be told of a successor", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	settle(p, 3)
	if used.told() || used.status() != "ONLINE" {
		t.Fatalf("the last one was told to stop: %v, it is %s", used.told(), used.status())
	}
	p.pod(p.group).online()
	p.until("it to be stopped", used.told)
}

// A control plane that was started after the step has only the sidecar's word.
func TestEphemeralRunnerThatTookItsStepBeforeTheStartIsReplaced(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "2", "ephemeral": "true", "spare": "0"})
	used := p.pod(p.group)
	used.begun = 1
	used.online()
	p.until("KEDA to be told of a successor", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	p.pod(p.group).online()
	p.until("it to be stopped", used.told)
}

func TestOfUsedEphemeralRunnersTheLastStaysEnabled(t *testing.T) {
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
	settle(p, 5)
	if n := enabled(); n != 1 {
		t.Errorf("%d are enabled, want the last one", n)
	}
}

func TestOutdatedRunnersAreReplacedOneAtATimeSuccessorFirst(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "2", "max": "5"})
	p.group = p.Cluster.Change(p.group.UID, "1", nil)
	old := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("both to be idle", p.counts("idle", 2))
	p.group = p.Cluster.Change(p.group.UID, "2", nil)
	told := func() (n int) {
		for _, d := range old {
			if d.told() {
				n++
			}
		}
		return n
	}
	for i := range old {
		p.until("KEDA to be told of one more", func() bool { n, err := p.metric(p.group); return err == nil && n == 3 })
		settle(p, 3)
		if n := told(); n != i {
			t.Fatalf("%d were stopped before the successor of the next is online, want %d", n, i)
		}
		successor := p.pod(p.group)
		settle(p, 3)
		if n, err := p.metric(p.group); err != nil || n != 3 {
			t.Fatalf("KEDA is told of %d, %v, once the successor's Job is there; want 3 still", n, err)
		}
		successor.online()
		p.until("the old one to be stopped", func() bool { return told() == i+1 })
		for _, d := range old {
			if d.told() && p.hasJob(d) {
				p.Cluster.FinishJob(d.job.UID, true)
			}
		}
	}
	p.until("the group to be as it was", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	p.until("its users to be told why", func() bool { return p.said("Outdated") })
}

func TestRunnerOfAScopeThatItsGroupHasLeftIsSeenToItsEnd(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "3"})
	p.group = p.Cluster.Change(p.group.UID, "1", nil)
	d := p.pod(p.group).online()
	d.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	p.group = p.Cluster.Change(p.group.UID, "2", map[string]string{"repository": "app"})
	p.until("the group to have moved", func() bool { return strings.Contains(p.shown("builds").Scope, "app") })
	p.until("the runner that it left to be busy still", p.counts("busy", 1))
	p.until("the first list of where it is now", func() bool { _, err := p.metric(p.group); return err == nil })
	p.pod(p.group).online()
	settle(p, 5)
	if d.told() || d.status() != "ONLINE" {
		t.Fatalf("the busy one was told to stop: %v, it is %s", d.told(), d.status())
	}
	d.endStep()
	p.until("it to be stopped after its step", d.told)
	if _, err := p.wire.Deregister(d.ctx(), &runnerv1.DeregisterRequest{RunnerUuid: d.uuid}); err != nil || d.status() != "" {
		t.Errorf("deregistered: %v, it is %q", err, d.status())
	}
}

func TestBusyOutdatedRunnerIsLeftToItsStep(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "3"})
	p.group = p.Cluster.Change(p.group.UID, "1", nil)
	d := p.pod(p.group).online()
	d.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	p.group = p.Cluster.Change(p.group.UID, "2", nil)
	p.pod(p.group).online()
	settle(p, 5)
	if d.told() || d.status() != "ONLINE" {
		t.Errorf("it was told to stop: %v, it is %s", d.told(), d.status())
	}
}

func TestWhereMaxLeavesNoRoomAnOldRunnerGoesFirst(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "max": "1", "maxAge": "3s"})
	d := p.pod(p.group).online()
	p.until("it to be stopped", d.told)
	p.until("its users to be told why", func() bool { return p.said("MaxAge") })
}
