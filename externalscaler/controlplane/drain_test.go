package controlplane_test

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	idle = runnerv1.RunnerState_RUNNER_STATE_IDLE
	busy = runnerv1.RunnerState_RUNNER_STATE_BUSY
)

// runStep gives the pod's runner a step that both Bitbucket and the sidecar report.
func (d *pod) runStep() {
	d.p.t.Helper()
	d.set("step", aStep)
	d.report(busy, aStep)
}

// endStep ends the runner's step.
func (d *pod) endStep() {
	d.p.t.Helper()
	d.set("idle", "")
	d.report(idle, "")
}

func (p *plane) counts(state string, n int) func() bool {
	return func() bool { return p.shown("builds").Runners[state] == n }
}

func TestIdleRunnerOfADeletedPodIsDisabledAndStopped(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	d := p.pod(p.group).online()
	p.until("it to be idle", p.counts("idle", 1))
	p.Cluster.DeletePod(d.job.UID)
	p.until("it to be stopped", d.stopOrdered)
	if d.status() != "DISABLED" {
		t.Errorf("it is %s, want it disabled before it was stopped", d.status())
	}
}

// A runner logs the end of a step before it reports it to Bitbucket.
func TestRunnerIsNotStoppedBeforeBitbucketKnowsThatItsStepEnded(t *testing.T) {
	config := quick()
	config.StepAssignDelay = time.Hour
	p := start(t, config, map[string]string{"min": "1"})
	d, other := p.pod(p.group).online(), p.pod(p.group).online()
	d.runStep()
	other.runStep() // so that lists are known to show steps
	p.until("both to be busy", p.counts("busy", 2))
	p.Cluster.DeletePod(d.job.UID)
	p.until("it to be disabled", p.counts("draining busy", 1))
	waitLists(p, 2)
	d.report(idle, "")
	waitLists(p, 10)
	if d.stopOrdered() {
		t.Fatal("it was stopped before Bitbucket received the step's result")
	}
	d.set("idle", "")
	p.until("it to be stopped", d.stopOrdered)
}

func TestIdleRunnerThatCouldNotBeDisabledIsNotStopped(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	d, other := p.pod(p.group).online(), p.pod(p.group).online()
	other.runStep() // so that lists are known to show steps
	p.until("both to be seen", func() bool { return p.counts("idle", 1)() && p.counts("busy", 1)() })
	p.faults(emulator.FaultRule{Method: "PUT", Path: "*/state", Status: 503})
	p.Cluster.DeletePod(d.job.UID)
	p.until("it to be draining", p.counts("draining", 1))
	waitLists(p, 10)
	if d.stopOrdered() {
		t.Error("it was stopped while Bitbucket could still give it a step")
	}
	p.faults()
	p.until("it to be stopped", d.stopOrdered)
}

func TestRunnerIsReadAgainAfterItWasDisabled(t *testing.T) {
	config := quick()
	config.StepAssignDelay, config.PollInterval = time.Millisecond, 2*time.Second
	p := start(t, config, map[string]string{"min": "1"})
	d := p.pod(p.group).online()
	waitLists(p, 1)
	p.until("it to be idle", p.counts("idle", 1))
	d.set("step", aStep) // neither the last list nor its sidecar shows it
	p.Cluster.DeletePod(d.job.UID)
	p.until("it to be disabled", func() bool { return d.status() == "DISABLED" })
	waitLists(p, 2)
	if d.stopOrdered() {
		t.Error("it was stopped with a step")
	}
}

func TestRunnerMustStayIdleIfListsShowNoSteps(t *testing.T) {
	config := quick()
	config.StepAssignDelay = time.Hour
	p := startWith(t, emulator.Options{RateLimit: 1 << 20, HideStep: true}, config, map[string]string{"min": "1"})
	d := p.pod(p.group).online()
	p.until("it to be idle", p.counts("idle", 1))
	p.Cluster.DeletePod(d.job.UID)
	p.until("it to be disabled", func() bool { return d.status() == "DISABLED" })
	waitLists(p, 10)
	if d.stopOrdered() {
		t.Error("it was stopped although Bitbucket may have given it a step")
	}
}

func TestBusyRunnerOfADeletedPodFinishesItsStep(t *testing.T) {
	for name, remove := range map[string]func(p *plane, d *pod){
		"its pod is deleted":     func(p *plane, d *pod) { p.Cluster.DeletePod(d.job.UID) },
		"its sidecar reports it": func(_ *plane, d *pod) { d.terminating = true; d.report(busy, aStep) },
		"its Job is deleted":     func(p *plane, d *pod) { p.deleteJob(d) },
		"its group is deleted":   func(p *plane, d *pod) { p.Cluster.Remove(p.group.UID); p.deleteJob(d) },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, quick(), map[string]string{"min": "1"})
			d := p.pod(p.group).online()
			d.runStep()
			p.until("it to be busy", p.counts("busy", 1))
			remove(p, d)
			p.until("it to be disabled", func() bool { return d.status() == "DISABLED" })
			waitLists(p, 5)
			if d.stopOrdered() {
				t.Fatal("a busy runner was ordered to stop")
			}
			d.endStep()
			p.until("it to be stopped once its step is done", d.stopOrdered)
		})
	}
}

func (p *plane) deleteJob(d *pod) {
	p.t.Helper()
	if err := p.Cluster.DeleteJob(p.t.Context(), d.job.Namespace, d.job.Name, d.job.UID); err != nil {
		p.t.Fatal(err)
	}
}

func TestDrainIsAcknowledgedAtOnce(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	p.faults(emulator.FaultRule{Path: "*", Status: 503}) // Bitbucket must not matter
	d := p.pod(p.group)
	d.terminating = true
	d.attach(idle)
	p.until("the acknowledgement", func() bool {
		select {
		case <-d.drained:
			return true
		default:
			return false
		}
	})
}

func TestTerminatingPodIsReplacedWhileItDrains(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	d := p.pod(p.group).online()
	d.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	before, err := p.metric(p.group)
	if err != nil {
		t.Fatal(err)
	}
	p.Cluster.DeletePod(d.job.UID)
	p.until("it to count as dead weight", p.counts("draining busy", 1))
	p.until("the metric to include a replacement", func() bool { n, err := p.metric(p.group); return err == nil && n >= 2 && n >= before })
}

func TestPodThatIsDeletedBeforeItRegistersGetsNoRunner(t *testing.T) {
	p := start(t, quick(), nil)
	d := p.pod(p.group)
	p.Cluster.DeletePod(d.job.UID)
	p.until("it to count as gone", p.counts("gone", 1))
	if response, err := d.register(); err != nil || response.GetFinish() == nil {
		t.Errorf("got %v, %v; want it to finish", response, err)
	}
	if n := len(p.state().Runners); n != 0 {
		t.Errorf("%d runners", n)
	}
}

func TestDrainWaitsForIdlenessIfDisablingIsRefused(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	p.faults(emulator.FaultRule{Method: "PUT", Path: "/internal/*/state", Status: 405})
	d := p.pod(p.group).online()
	d.runStep()
	p.until("it to be busy", p.counts("busy", 1))
	p.Cluster.DeletePod(d.job.UID)
	waitLists(p, 5)
	if d.stopOrdered() {
		t.Fatal("a busy runner was ordered to stop")
	}
	d.endStep()
	p.until("it to be stopped after it was idle for a while", d.stopOrdered)
}

func TestHiddenStepsAreKnownFromTelemetry(t *testing.T) {
	p := startWith(t, emulator.Options{RateLimit: 1 << 20, HideStep: true}, quick(), map[string]string{"min": "1", "coolDown": "1h"})
	working, resting, silent := p.pod(p.group).online(), p.pod(p.group).online(), p.pod(p.group)
	working.runStep()
	if _, err := silent.register(); err != nil {
		t.Fatal(err)
	}
	silent.set("online", "")
	p.until("each to be in the state that its sidecar reports", func() bool {
		return p.counts("busy", 1)() && p.counts("idle", 1)() && p.counts("unknown", 1)()
	})
	for _, d := range []*pod{working, resting, silent} {
		p.Cluster.DeletePod(d.job.UID)
	}
	p.until("the idle one to be stopped", resting.stopOrdered)
	waitLists(p, 5)
	if working.stopOrdered() {
		t.Error("the busy one was stopped")
	}
	jobs := p.Cluster.Unfinished()
	if len(jobs) != 3 {
		t.Errorf("%d Jobs are left, want the one of the unknown runner too", len(jobs))
	}
	working.endStep()
	p.until("the busy one to be stopped after its step", working.stopOrdered)
}

func TestRunnerWithUnrecognizedOutputIsKnownFromLists(t *testing.T) {
	for name, hide := range map[string]bool{"lists show steps": false, "lists show no steps": true} {
		t.Run(name, func(t *testing.T) {
			p := startWith(t, emulator.Options{RateLimit: 1 << 20, HideStep: hide}, shortLimits(), map[string]string{"min": "1"})
			known, strange := p.pod(p.group).online(), p.pod(p.group)
			known.runStep()
			strange.unrecognized = true
			if _, err := strange.register(); err != nil {
				t.Fatal(err)
			}
			strange.attach(runnerv1.RunnerState_RUNNER_STATE_UNKNOWN)
			strange.set("online", "")
			strange.set("step", "{dddddddd-2222-4222-8222-222222222222}")
			p.until("the Event", func() bool { return p.hasEvent("UnrecognizedOutput") && p.shown("builds").Unrecognized == 1 })
			p.Cluster.DeletePod(strange.job.UID)
			p.until("it to be disabled", func() bool { return strange.status() == "DISABLED" })
			waitLists(p, 10)
			if strange.stopOrdered() {
				t.Fatal("it was stopped during its step")
			}
			strange.set("idle", "")
			if hide {
				waitLists(p, 10)
				if strange.stopOrdered() {
					t.Error("it was stopped although it may have a step")
				}
				return
			}
			p.until("it to be stopped after its step", strange.stopOrdered)
		})
	}
}

func TestRunnerThatNeverCameOnlineIsStoppedDespiteUnrecognizedOutput(t *testing.T) {
	p := startWith(t, emulator.Options{RateLimit: 1 << 20, HideStep: true}, shortLimits(), map[string]string{"min": "1"})
	mute := p.pod(p.group)
	mute.unrecognized = true
	if _, err := mute.register(); err != nil {
		t.Fatal(err)
	}
	mute.attach(runnerv1.RunnerState_RUNNER_STATE_UNKNOWN)
	p.until("it to be stopped", mute.stopOrdered)
	p.until("the Event", func() bool { return p.hasEvent("Lost") })
}
