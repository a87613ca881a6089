package controlplane_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/controlplane"
)

// shortLimits returns limits of seconds instead of minutes.
func shortLimits() controlplane.Config {
	config := quick()
	config.LostAfter, config.LostSight, config.StartLimit, config.DetachedLimit = time.Second, 500*time.Millisecond, 2*time.Second, time.Second
	return config
}

// hasEvent reports whether there is an Event with this reason.
func (p *plane) hasEvent(reason string) bool {
	for _, e := range p.Cluster.EventsSeen() {
		if e.Reason == reason {
			return true
		}
	}
	return false
}

// hasJob reports whether a pod's Job still exists.
func (p *plane) hasJob(d *pod) bool {
	for _, job := range p.Cluster.Unfinished() {
		if job.UID == d.job.UID {
			return true
		}
	}
	return false
}

func TestLostRunnerWithAPodIsStopped(t *testing.T) {
	p := start(t, shortLimits(), map[string]string{"min": "1"})
	attached, silent, working := p.pod(p.group).online(), p.pod(p.group).online(), p.pod(p.group).online()
	working.runStep()
	p.pod(p.group).online().runStep() // lists show its step
	waitLists(p, 2)                   // so that lists are known to show steps
	silent.cancel()
	for _, d := range []*pod{attached, silent, working} {
		d.set("offline", "")
	}
	p.until("the attached one to be stopped", attached.stopOrdered)
	p.until("the silent one's Job to be deleted", func() bool { return !p.hasJob(silent) })
	waitLists(p, 5)
	if working.stopOrdered() || !p.hasJob(working) || working.status() == "" {
		t.Errorf("the one that reports a step was stopped: %v, or its Job deleted: %v", working.stopOrdered(), !p.hasJob(working))
	}
	p.until("the Event", func() bool { return p.hasEvent("Lost") })
}

func TestRunnerThatIsBrieflyOfflineIsNotLost(t *testing.T) {
	config := shortLimits()
	config.LostSight = time.Hour
	p := start(t, config, map[string]string{"min": "1"})
	d := p.pod(p.group).online()
	d.set("offline", "")
	p.until("it to look lost", p.counts("lost", 1))
	waitLists(p, 5)
	if d.stopOrdered() || d.status() != "OFFLINE" {
		t.Errorf("it was ordered to stop: %v, it is %s", d.stopOrdered(), d.status())
	}
}

// call sends a request about the pod's runner directly to Bitbucket, as a person would.
func (d *pod) call(method, root, suffix, body string) {
	d.p.t.Helper()
	url := d.p.BitbucketURL + root + "/workspaces/acme/pipelines-config/runners/" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(d.uuid) + suffix
	request, err := http.NewRequestWithContext(d.p.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		d.p.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		d.p.t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode/100 != 2 {
		d.p.t.Fatalf("%s %s: %s, %v", method, url, response.Status, err)
	}
}

func TestRunnerThatSomeoneDeletedIsStopped(t *testing.T) {
	p := start(t, shortLimits(), map[string]string{"min": "1"})
	resting, working := p.pod(p.group).online(), p.pod(p.group).online()
	working.runStep()
	p.until("both to be seen", func() bool { return p.counts("idle", 1)() && p.counts("busy", 1)() })
	resting.call(http.MethodDelete, "/2.0", "", "")
	working.call(http.MethodDelete, "/2.0", "", "")
	p.until("the idle one to be stopped", resting.stopOrdered)
	waitLists(p, 5)
	if working.stopOrdered() {
		t.Error("the one that still runs its step was stopped")
	}
	p.until("the Event", func() bool { return p.hasEvent("Forgotten") })
}

func TestJobThatNeverAsksForARunnerIsDeletedOnceItHasANode(t *testing.T) {
	p := start(t, shortLimits(), map[string]string{"min": "3"})
	stuck, waitsForANode, asks := p.pod(p.group), p.pod(p.group), p.pod(p.group)
	p.Cluster.Schedule(stuck.job.UID, "node")
	p.Cluster.Schedule(asks.job.UID, "node")
	p.faults(emulator.FaultRule{Method: "POST", Path: "*/runners", Status: 503})
	if _, err := asks.register(); err == nil {
		t.Fatal("registered despite the fault")
	}
	p.until("the stuck Job to be deleted", func() bool { return !p.hasJob(stuck) })
	p.until("the Event", func() bool { return p.hasEvent("Stuck") })
	waitLists(p, 10)
	if !p.hasJob(waitsForANode) || !p.hasJob(asks) {
		t.Errorf("deleted the Job that waits for a node: %v, the one that waits for Bitbucket: %v", !p.hasJob(waitsForANode), !p.hasJob(asks))
	}
}

func TestJobThatDoesNotEndAfterAStopIsDeleted(t *testing.T) {
	p := start(t, shortLimits(), map[string]string{"min": "1"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("the surplus to be stopped", func() bool { return pods[0].stopOrdered() || pods[1].stopOrdered() })
	p.until("its Job, whose pod lingers, to be deleted", func() bool {
		return slices.ContainsFunc(pods, func(d *pod) bool { return d.stopOrdered() && !p.hasJob(d) })
	})
}

func TestUnwantedJobsWithoutARunnerAreDeletedYoungestFirst(t *testing.T) {
	p := start(t, shortLimits(), map[string]string{"min": "1", "max": "4"})
	p.pod(p.group).online()
	p.until("it to be idle", p.counts("idle", 1))
	older, younger := p.pod(p.group), p.pod(p.group)
	p.until("the younger Job to be deleted", func() bool { return !p.hasJob(younger) })
	p.until("the older one too", func() bool { return !p.hasJob(older) })
	if response, err := younger.register(); err == nil && response.GetRunner() != nil {
		t.Error("a deleted Job's pod got a runner")
	}
	p.until("the Event", func() bool { return p.hasEvent("Unwanted") })
}

func TestDisabledRunnerWithoutASidecarIsRemovedOnlyIfListsShowSteps(t *testing.T) {
	for name, hide := range map[string]bool{"lists show steps": false, "lists show no steps": true} {
		t.Run(name, func(t *testing.T) {
			p := startWith(t, emulator.Options{RateLimit: 1 << 20, HideStep: hide}, shortLimits(), map[string]string{"min": "1", "coolDown": "1h"})
			d, other := p.pod(p.group).online(), p.pod(p.group).online()
			other.runStep() // so that lists are known to show steps, if they do
			waitLists(p, 2)
			d.cancel()
			d.call(http.MethodPut, "/internal", "/state", `{"status":"DISABLED"}`)
			if hide {
				waitLists(p, 10)
				if !p.hasJob(d) {
					t.Error("its Job was deleted although its runner may have a step")
				}
				return
			}
			p.until("its Job to be deleted", func() bool { return !p.hasJob(d) })
		})
	}
}

func TestDisabledOrphanIsKeptLongerIfListsShowNoSteps(t *testing.T) {
	config := quick()
	config.OrphanGrace, config.LostAfter = time.Millisecond, time.Hour
	p := startWith(t, emulator.Options{RateLimit: 1 << 20, HideStep: true}, config, nil)
	lost, unborn := p.pod(p.group).online(), p.pod(p.group)
	if _, err := unborn.register(); err != nil {
		t.Fatal(err)
	}
	lost.runStep()
	for _, d := range []*pod{lost, unborn} {
		p.Cluster.FinishJob(d.job.UID, false) // without grace, or on a node that is cut off
	}
	lost.call(http.MethodPut, "/internal", "/state", `{"status":"DISABLED"}`)
	p.until("the one that never came online to be removed", func() bool { return unborn.status() == "" })
	waitLists(p, 10)
	if lost.status() != "DISABLED" {
		t.Errorf("the one that may have a step is %q, want it still there", lost.status())
	}
}

func TestDryRunOnlyWritesEvents(t *testing.T) {
	config := shortLimits()
	config.DryRun = true
	p := start(t, config, map[string]string{"min": "1"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	stuck := p.pod(p.group)
	p.Cluster.Schedule(stuck.job.UID, "node")
	p.until("the Event", func() bool { return p.hasEvent("DryRun") })
	waitLists(p, 15)
	for i, d := range pods {
		if d.stopOrdered() || d.status() != "ONLINE" {
			t.Errorf("%d: ordered to stop %v, %s", i, d.stopOrdered(), d.status())
		}
	}
	if !p.hasJob(stuck) {
		t.Error("a Job was deleted")
	}
}

func TestFullScopeReplacesARunnerWithoutAPod(t *testing.T) {
	config := quick()
	config.OrphanGrace = time.Hour // so that the reaper does not remove it
	p := start(t, config, nil)
	var orphan string
	for i := range 100 {
		owner := p.Owner()
		if i > 0 {
			owner = "keda.other.00000000"
		}
		uuid, err := registerElsewhere(t, p, owner)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			orphan = uuid
		}
	}
	if err := p.Control.SetRunner(t.Context(), orphan, "offline", ""); err != nil {
		t.Fatal(err)
	}
	d := p.pod(p.group)
	p.until("a place", func() bool {
		response, err := d.register()
		return err == nil && response.GetRunner() != nil
	})
	if n := len(p.state().Runners); n != 100 {
		t.Errorf("%d runners, want 100 still", n)
	}
}

func TestRemovalsAreCountedByReason(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	pods := []*pod{p.pod(p.group).online(), p.pod(p.group).online()}
	p.until("the surplus to be stopped", func() bool { return pods[0].stopOrdered() || pods[1].stopOrdered() })
	p.until("it to be counted", func() bool {
		return strings.Contains(p.metrics(), fmt.Sprintf("removals_total{reason=%q} 1", "Surplus"))
	})
}

// metrics returns what Prometheus reads.
func (p *plane) metrics() string {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.HTTPAddress+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}
