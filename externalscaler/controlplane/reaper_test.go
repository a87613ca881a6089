package controlplane_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const aStep = "{aaaaaaaa-0000-4000-8000-000000000000}"

// registerElsewhere registers a runner with an owner label and without a pod.
func registerElsewhere(t *testing.T, p *plane, owner string) (string, error) {
	t.Helper()
	return story.RegisterOrphan(t.Context(), http.DefaultClient, p.BitbucketURL, owner, "builds")
}

func TestSurplusIsDisabledReadAgainAndStopped(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1", "scaleDownMultiplier": "0.5"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("one of the two idle runners to be stopped", func() bool { return pods[0].stopOrdered() || pods[1].stopOrdered() })
	for _, d := range pods {
		if d.stopOrdered() && d.status() != "DISABLED" {
			t.Errorf("the stopped runner is %s, want it disabled first", d.status())
		}
		if !d.stopOrdered() && d.status() != "ONLINE" {
			t.Errorf("the other is %s", d.status())
		}
	}
	if pods[0].stopOrdered() && pods[1].stopOrdered() {
		t.Error("both were stopped, min is 1")
	}
}

func TestRunnerThatTookAStepBeforeItWasDisabledFinishesIt(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	// One runner takes a step without a list that shows it. The control plane sees the
	// step when it reads the runner again after disabling it.
	p.faults(emulator.FaultRule{Method: "GET", Path: "*/pipelines-config/runners", Status: 503})
	p.until("one to be disabled", func() bool {
		for _, d := range pods {
			if d.status() == "DISABLED" {
				d.set("step", aStep)
				return true
			}
		}
		return false
	})
	p.faults()
	var busy *pod
	for _, d := range pods {
		if d.status() == "DISABLED" {
			busy = d
		}
	}
	p.until("the list to show its step", func() bool { return p.shown("builds").Runners["draining busy"] == 1 })
	busy.report(runnerv1.RunnerState_RUNNER_STATE_BUSY, aStep)
	if busy.stopOrdered() {
		t.Fatal("a busy runner was ordered to stop")
	}
	busy.set("idle", "")
	busy.report(runnerv1.RunnerState_RUNNER_STATE_IDLE, "")
	p.until("it to be stopped after its step", busy.stopOrdered)
}

func TestUnknownRunnersAreNotStopped(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	for range 3 {
		d := p.pod(p.group)
		if _, err := d.register(); err != nil {
			t.Fatal(err)
		}
		d.set("online", "")
	}
	// No sidecar is attached, and no list has ever shown a step.
	p.until("all to be online, unknown", func() bool { return p.shown("builds").Runners["unknown"] == 3 })
	waitLists(p, 5)
	for _, r := range p.state().Runners {
		if r.Status != "ONLINE" {
			t.Errorf("%s is %s although it may be busy", r.Name, r.Status)
		}
	}
	if n, err := p.metric(p.group); err != nil || n != 3 {
		t.Errorf("metric %d, %v; want the group neither to grow nor to shrink", n, err)
	}
}

func TestRunnerWithoutASidecarIsNotDisabled(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	for range 3 { // online, but no sidecar is attached
		d := p.pod(p.group)
		if _, err := d.register(); err != nil {
			t.Fatal(err)
		}
		d.set("online", "")
		d.set("step", aStep)
		p.until("the list to show the step", func() bool { return p.shown("builds").Runners["busy"] == 1 })
		d.set("idle", "")
	}
	p.until("the list to show all idle", func() bool { return p.shown("builds").Runners["idle"] == 3 })
	waitLists(p, 5)
	for _, r := range p.state().Runners {
		if r.Status != "ONLINE" {
			t.Errorf("%s is %s although no sidecar could stop it", r.Name, r.Status)
		}
	}
}

// waitLists waits for n more lists, so that anything that must not happen could happen.
func waitLists(p *plane, n int) {
	p.t.Helper()
	route := "GET /2.0/workspaces/{workspace}/pipelines-config/runners"
	before := p.state().Counters.Calls[route]
	p.until("more lists", func() bool { return p.state().Counters.Calls[route] >= before+n })
}

func TestNoSurplusIsStoppedIfDisablingIsRefused(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	p.faults(emulator.FaultRule{Method: "PUT", Path: "/internal/*/state", Status: 405})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("an Event about it", func() bool {
		for _, e := range p.Cluster.EventsSeen() {
			if e.Reason == "DisableUnsupported" && strings.Contains(e.Message, "--unsafe-scale-down") {
				return true
			}
		}
		return false
	})
	if pods[0].stopOrdered() || pods[1].stopOrdered() {
		t.Error("a runner was stopped without having been disabled")
	}
}

func TestOnlyOurOrphanIsRemoved(t *testing.T) {
	p := start(t, quick(), nil)
	orphan, err := registerElsewhere(t, p, p.Owner())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := registerElsewhere(t, p, "keda.other.00000000")
	if err != nil {
		t.Fatal(err)
	}
	online, err := registerElsewhere(t, p, p.Owner())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Control.SetRunner(t.Context(), online, "online", ""); err != nil {
		t.Fatal(err)
	}
	present := func(uuid string) bool {
		for _, r := range p.state().Runners {
			if r.UUID == uuid {
				return true
			}
		}
		return false
	}
	p.until("the orphan to be removed", func() bool { return !present(orphan) })
	waitLists(p, 5)
	if !present(stranger) || !present(online) {
		t.Errorf("the other's runner exists: %v; ours, but ONLINE, exists: %v; want both", present(stranger), present(online))
	}
	if err := p.Control.SetRunner(t.Context(), online, "offline", ""); err != nil {
		t.Fatal(err)
	}
	p.until("the runner that went OFFLINE to be removed", func() bool { return !present(online) })
}

func TestOrphanWithAStepStaysUntilTheStepEnds(t *testing.T) {
	p := start(t, quick(), nil)
	uuid, err := registerElsewhere(t, p, p.Owner())
	if err != nil {
		t.Fatal(err)
	}
	set := func(action, step string) {
		t.Helper()
		if err := p.Control.SetRunner(t.Context(), uuid, action, step); err != nil {
			t.Fatal(err)
		}
	}
	set("online", "")
	set("step", aStep)
	set("unhealthy", "")
	status := func() string {
		for _, r := range p.state().Runners {
			if r.UUID == uuid {
				return r.Status
			}
		}
		return ""
	}
	waitLists(p, 10)
	if got := status(); got != "UNHEALTHY" {
		t.Fatalf("it is %q, want it unchanged", got)
	}
	set("offline", "")
	p.until("it to be removed", func() bool { return status() == "" })
}

func TestRunnersWithPodsAreKeptAfterAnEmptyList(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "3"})
	for range 3 {
		p.pod(p.group).online()
	}
	p.until("all to be idle", func() bool { return p.shown("builds").Runners["idle"] == 3 })
	p.faults(emulator.FaultRule{Method: "GET", Path: "*/pipelines-config/runners", EmptyList: true})
	waitLists(p, 5)
	if n, err := p.metric(p.group); err != nil || n != 3 {
		t.Errorf("metric %d, %v after empty lists; want 3 still", n, err)
	}
	p.faults()
	waitLists(p, 3)
	for _, r := range p.state().Runners {
		if r.Status != "ONLINE" {
			t.Errorf("%s is %s", r.Name, r.Status)
		}
	}
}

func TestStaleWatchMakesNoOrphan(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	d := p.pod(p.group).online()
	p.until("it to be idle", p.counts("idle", 1))
	p.Cluster.Hide(d.job.UID)
	d.set("offline", "")
	waitLists(p, 10)
	if got := d.status(); got != "OFFLINE" {
		t.Fatalf("it is %q although its pod exists", got)
	}
	p.Cluster.FinishJob(d.job.UID, false)
	p.until("it to be removed once its pod is gone", func() bool { return d.status() == "" })
}

func TestNothingChangesWhileBitbucketIsUnreachable(t *testing.T) {
	config := quick()
	config.MaxStaleness = time.Second
	p := start(t, config, map[string]string{"min": "1"})
	d := p.pod(p.group).online()
	p.until("it to be idle", func() bool { return p.shown("builds").Runners["idle"] == 1 })
	p.faults(emulator.FaultRule{Path: "*", Status: 503})
	p.until("UNAVAILABLE with Bitbucket's own answer, once the list is too old", func() bool {
		n, err := p.metric(p.group)
		if err == nil && n != 1 {
			t.Fatalf("metric %d while Bitbucket is unreachable, want 1 still", n)
		}
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "503")
	})
	p.faults()
	p.until("an answer again", func() bool { n, err := p.metric(p.group); return err == nil && n == 1 })
	if d.stopOrdered() || d.status() != "ONLINE" {
		t.Errorf("ordered to stop: %v, status %s", d.stopOrdered(), d.status())
	}
}
