package controlplane_test

import (
	"testing"

	"bitbucket-runner-scaler/externalscaler/testbed"
)

// Two installations may serve the same workspace and groups with the same labels.
func TestTwoInstallationsNeverTouchEachOthersRunners(t *testing.T) {
	p := start(t, shortLimits(), map[string]string{"min": "1"})
	q := startIn(t, testbed.Config{BitbucketURL: p.BitbucketURL, Namespace: "another"}, shortLimits(), map[string]string{"min": "2"})
	if p.Owner() == q.Owner() {
		t.Fatalf("both have the owner label %s", p.Owner())
	}
	theirs := []*pod{q.pod(q.group).online(), q.pod(q.group).online()}
	q.until("two to be idle", q.counts("idle", 2))
	surplus := []*pod{p.pod(p.group).online(), p.pod(p.group).online(), p.pod(p.group).online()}
	stopped := func() (n int) {
		for _, d := range surplus {
			if d.stopOrdered() {
				n++
			}
		}
		return n
	}
	p.until("the surplus to be stopped", func() bool { return stopped() == 2 })
	orphan, err := registerElsewhere(t, q, p.Owner())
	if err != nil {
		t.Fatal(err)
	}
	p.until("the orphan to be removed by its own installation", func() bool {
		for _, r := range p.state().Runners {
			if r.UUID == orphan {
				return false
			}
		}
		return true
	})
	waitLists(p, 5)
	for _, d := range theirs {
		if d.stopOrdered() || d.status() != "ONLINE" {
			t.Errorf("a runner of the other installation is %s, stopped %v", d.status(), d.stopOrdered())
		}
	}
	if n, err := q.metric(q.group); err != nil || n != 2 {
		t.Errorf("the other installation's metric is %d, %v; want 2", n, err)
	}
}

func TestUnfilledMinimumIsReserved(t *testing.T) {
	p := start(t, quick(), map[string]string{"min": "1"})
	for range 95 {
		if _, err := registerElsewhere(t, p, "keda.other.00000000"); err != nil {
			t.Fatal(err)
		}
	}
	p.pod(p.group).online().runStep()
	p.until("the metric to include one more", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
	reserved := p.apply("reserved", map[string]string{"min": "4"})
	p.until("the rest of the scope to be reserved", func() bool { n, err := p.metric(p.group); return err == nil && n == 1 })
	p.Cluster.Remove(reserved.UID)
	p.until("the metric to include one more again", func() bool { n, err := p.metric(p.group); return err == nil && n == 2 })
}
