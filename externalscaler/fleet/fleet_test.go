package fleet

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

func TestOldListIsNotActedOn(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	lists := &scopes{}
	lists.show(id("acme", ""), clk.Now())
	f := start(t, Config{Clock: clk, RebuildInterval: -1, MaxStaleness: time.Minute, Scopes: lists})
	if _, err := call(t, f, "g", of("acme", "", "one")); err != nil {
		t.Fatal(err)
	}
	key := GroupKey{"ns", "g"}
	clk.Step(180 * time.Second)
	if _, err := f.Group(key); err != nil {
		t.Errorf("within three intervals: got %v", err)
	}
	gone := errors.New("Bitbucket is away")
	view := *lists.views[id("acme", "")]
	view.Err = gone
	lists.mu.Lock()
	lists.views = scope.Views{view.ID: &view}
	lists.mu.Unlock()
	clk.Step(time.Second)
	f.Changed()
	until(t, "Bitbucket's own answer", func() bool {
		_, err := f.Group(key)
		return errors.Is(err, scope.ErrNoList) && errors.Is(err, gone)
	})
}

func TestAListOfAStretchedIntervalIsFreshForLonger(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	lists := &scopes{}
	lists.show(id("acme", ""), clk.Now())
	view := *lists.views[id("acme", "")]
	view.Interval = 190 * time.Second // as with 47 scopes; a group that nobody calls for 10 min is forgotten
	lists.views = scope.Views{view.ID: &view}
	f := start(t, Config{Clock: clk, RebuildInterval: -1, Scopes: lists})
	if _, err := call(t, f, "g", of("acme", "", "one")); err != nil {
		t.Fatal(err)
	}
	clk.Step(570 * time.Second)
	if _, err := f.Group(GroupKey{"ns", "g"}); err != nil {
		t.Errorf("within three intervals: got %v", err)
	}
	clk.Step(time.Second)
	if _, err := f.Group(GroupKey{"ns", "g"}); !errors.Is(err, scope.ErrNoList) {
		t.Errorf("after three intervals: got %v, want %v", err, scope.ErrNoList)
	}
}

func TestGroupsKnownFromCallsAreBoundedAndForgotten(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	lists := &scopes{}
	f := start(t, Config{Clock: clk, RebuildInterval: -1, MaxScopes: 2, Scopes: lists})
	for _, repository := range []string{"", "app"} {
		lists.show(id("acme", repository), clk.Now())
		if _, err := call(t, f, "of"+repository, of("acme", repository, "one")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := call(t, f, "web", of("acme", "web", "one")); !errors.Is(err, ErrTooManyScopes) {
		t.Fatalf("a third scope: got %v", err)
	}
	for i := 3; i < groupsPerScope*2; i++ {
		if _, err := call(t, f, fmt.Sprint(i), of("acme", "", "one")); err != nil {
			t.Fatalf("group %d: %v", i, err)
		}
	}
	if _, err := call(t, f, "one more", of("acme", "", "one")); !errors.Is(err, ErrTooManyScopes) {
		t.Errorf("a group beyond the bound: got %v", err)
	}
	clk.Step(10*time.Minute + time.Second)
	until(t, "all to be forgotten", func() bool { return len(f.Groups()) == 0 && len(f.Faulty()) == 0 })
}

func TestEveryFaultOfTheConfigurationIsReported(t *testing.T) {
	_, err := New(Config{MaxStaleness: -1})
	for _, want := range []string{"owner label", "scopes", "max staleness"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

func TestSyncWaitsForWhatWasKnownWhenItWasCalled(t *testing.T) {
	lists := &scopes{}
	f := start(t, Config{Scopes: lists, Kubernetes: cluster{scaledJobs: []ScaledJob{{GroupKey: GroupKey{"ns", "g"}, Metadata: of("acme", "", "one")}}}})
	for range 10 {
		begun := time.Now()
		lists.show(id("acme", ""), begun)
		f.Changed()
		if err := f.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if group, err := f.Group(GroupKey{"ns", "g"}); err != nil || !group.ListBegun.Equal(begun) {
			t.Fatalf("got %v, %v, want the list begun at %v", group, err, begun)
		}
	}
}

func TestAGroupIsNeverBothValidAndFaultyInOneAnswer(t *testing.T) {
	lists := &scopes{}
	lists.show(id("acme", ""), time.Now())
	key := GroupKey{"ns", "g"}
	var broken atomic.Bool
	f := start(t, Config{Scopes: lists, RebuildInterval: -1, Kubernetes: cluster{scaledJobs: []ScaledJob{{GroupKey: key, Metadata: of("acme", "", "one")}}}, Admit: func(GroupKey, runnergroup.Group) error {
		if broken.Load() {
			return errors.New("not now")
		}
		return nil
	}})
	until(t, "the group", func() bool { return f.Known(key) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := range 200 {
			broken.Store(i%2 == 0)
			f.Changed()
			if f.Sync(t.Context()) != nil {
				return
			}
		}
	}()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		default:
		}
		if valid, faulty := f.Observed(); len(valid)+len(faulty) != 1 {
			t.Fatalf("got %d valid and %d faulty groups, want one in all", len(valid), len(faulty))
		}
	}
}

// counted counts how often a snapshot is read from the cluster.
type counted struct {
	cluster
	read atomic.Int64
}

func (c *counted) Jobs() []Job { c.read.Add(1); return nil }

func TestReportsThatArriveTogetherAreShownTogether(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	kubernetes := &counted{}
	f := start(t, Config{Clock: clk, Scopes: &scopes{}, Kubernetes: kubernetes})
	until(t, "the first snapshot", func() bool { return kubernetes.read.Load() == 1 })
	for range 1000 {
		f.Report("pod", Telemetry{Attached: true})
	}
	if n := kubernetes.read.Load(); n != 1 {
		t.Errorf("%d snapshots before the interval is over, want 1", n)
	}
	until(t, "the next snapshot", func() bool { clk.Step(10 * time.Millisecond); return kubernetes.read.Load() == 2 })
	if err := f.Sync(t.Context()); err != nil {
		t.Error(err)
	}
}

// distrusting are scopes whose lists no longer prove anything once they are distrusted.
type distrusting struct{ scopes }

func (d *distrusting) DistrustSteps(id scope.ID, _ time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	view := *d.views[id]
	view.StepSeen = false
	d.views = scope.Views{id: &view}
}

func TestAListThatLacksAKnownStepIsNotBelievedByTheSnapshotThatFindsIt(t *testing.T) {
	now := time.Now()
	var runners []bitbucket.Runner
	k := cluster{scaledJobs: []ScaledJob{{GroupKey: GroupKey{"ns", "g"}, UID: "g", Metadata: of("acme", "", "a")}}}
	for _, name := range []string{"busy", "silent"} {
		pod := Pod{Namespace: "ns", Name: name, UID: name, Node: "node"}
		k.pods = append(k.pods, pod)
		k.jobs = append(k.jobs, Job{Namespace: "ns", Name: name, UID: name, ScaledJobUID: "g", Pod: &pod})
		runners = append(runners, bitbucket.Runner{
			UUID: name, Name: scope.RunnerName(name, name), Labels: []string{"self.hosted", "linux", "a", owner}, State: bitbucket.RunnerState{Status: bitbucket.StatusOnline},
		})
	}
	lists := &distrusting{}
	lists.views = scope.Views{id("acme", ""): {ID: id("acme", ""), Runners: runners, StepSeen: true, ListBegun: now, ServerDate: now}}
	f, err := New(Config{Owner: owner, Scopes: lists, Kubernetes: k})
	if err != nil {
		t.Fatal(err)
	}
	f.telemetry.report("busy", Telemetry{Attached: true, Activity: ActivityBusy, StepUUID: "{5}", Since: now.Add(-time.Hour)})
	f.rebuild()
	if _, m, _ := f.Member("silent"); m.State != Unknown {
		t.Errorf("a runner that this list shows without a step is %s, want unknown", m.State)
	}
}
