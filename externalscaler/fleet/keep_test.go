package fleet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// heard has the runner of a pod report another step.
func heard(in *input, pod, step string) {
	report := *in.reports.of(pod)
	report.Activity, report.StepUUID = ActivityBusy, step
	in.reports = maps.Clone(in.reports)
	in.reports[pod] = &report
}

func TestOnlyGroupsOfWhichSomethingNewIsKnownAreOtherOnes(t *testing.T) {
	c, in := many()
	before, found := c.build(in)
	in.history = found.history
	heard(&in, "g17-3-pod-uid", "{new}")
	in.now = in.now.Add(time.Millisecond)
	next, found := c.build(in)
	for key, group := range next.groups {
		starts := group.Observation.Pending > 0 // it is looked for each time
		if news := key.Name == "g17"; !starts && news == (group == before.groups[key]) {
			t.Errorf("%s is another one than before: %v, want %v", key, !news, news)
		}
	}
	if at := slices.IndexFunc(next.groups[GroupKey{"ns", "g17"}].Members, func(m Member) bool { return m.Telemetry.StepUUID == "{new}" }); at < 0 {
		t.Error("the report does not show")
	}
	found.history.forgetMembers()
	in.history = found.history
	later, _ := c.build(in)
	for key, group := range later.groups {
		if group == next.groups[key] {
			t.Errorf("%s: time has passed, and it is the same", key)
		}
	}
}

// TestASnapshotIsWhatItWouldBeWithoutTheOneBefore changes one thing after the other.
func TestASnapshotIsWhatItWouldBeWithoutTheOneBefore(t *testing.T) {
	for seed := range uint64(20) {
		c, in := many()
		random := rand.New(rand.NewPCG(seed, 0))
		pod := func() string { return fmt.Sprintf("g%d-%d-pod-uid", random.IntN(100), random.IntN(10)) }
		starting := func() string { return fmt.Sprintf("g%d-9-pod-uid", random.IntN(10)) }
		changes := []struct {
			name string
			do   func()
		}{
			{"nothing", func() {}},
			{"a report", func() { heard(&in, pod(), fmt.Sprintf("{%d}", random.IntN(5))) }},
			{"the end of a pod", func() {
				uid := pod()
				ended := *in.reports.of(uid)
				ended.stopping = in.now
				in.reports = maps.Clone(in.reports)
				in.reports[uid] = &ended
			}},
			{"the end of a pod that starts", func() {
				in.reports = maps.Clone(in.reports)
				in.reports[starting()] = &podMemory{stopping: in.now}
			}},
			{"a sidecar that names another scope", func() {
				in.reports = maps.Clone(in.reports)
				in.reports[starting()] = &podMemory{Telemetry: Telemetry{Attached: true, RunnerUUID: "{x}", Scope: id(otherUUID, "")}}
			}},
			{"a step that waits", func() {
				step := queue.Step{StepID: queue.StepID{Step: fmt.Sprintf("{%d}", random.IntN(100))}, In: "app", Build: 1, Labels: pipelines.Labels{"self.hosted", "linux", "g5"}, Scope: in.views[id("w5", "")].Resolved}
				in.queue = &queue.Snapshot{Steps: []queue.Step{step}}
			}},
			{"a pod without a Job", func() { in.pods = append(slices.Clone(in.pods), Pod{Namespace: "ns", Name: pod(), UID: pod()}) }},
			{"a Job that has finished", func() { in.jobs = slices.Delete(slices.Clone(in.jobs), 3, 4) }},
			{"a pod that is deleted", func() {
				in.pods = slices.Clone(in.pods)
				in.pods[random.IntN(len(in.pods))].Deleting = true
			}},
			{"a list", func() {
				in.views = maps.Clone(in.views)
				view := *in.views[id("w3", "")]
				view.Runners = slices.Clone(view.Runners)
				view.Runners[random.IntN(len(view.Runners))].State.Status = bitbucket.StatusDisabled
				view.Runners = slices.Delete(view.Runners, 5, 6)
				in.views[id("w3", "")] = &view
			}},
			{"a ScaledJob of another generation", func() {
				in.scaledJobs = slices.Clone(in.scaledJobs)
				in.scaledJobs[random.IntN(100)].Generation = "2"
			}},
		}
		for range 20 {
			change := changes[random.IntN(len(changes))]
			change.do()
			in.now = in.now.Add(time.Millisecond) // too little for anything to be late
			alone := in
			alone.history.grouping, alone.history.joined = nil, joinedFrom{}
			want, wantFound := c.build(alone)
			got, found := c.build(in)
			in.history = found.history
			for _, s := range []*snapshot{want, got} {
				for _, group := range s.groups {
					group.kept = false
				}
			}
			ageless(want, got)
			if !reflect.DeepEqual(got.groups, want.groups) || !reflect.DeepEqual(got.pods, want.pods) || !reflect.DeepEqual(got.orphaned, want.orphaned) ||
				!maps.Equal(got.live, want.live) || !maps.Equal(got.names, want.names) || !slices.Equal(found.wanted, wantFound.wanted) || !reflect.DeepEqual(found.demand, wantFound.demand) || !maps.Equal(found.history.idle, wantFound.history.idle) || !maps.Equal(found.history.used, wantFound.history.used) {
				t.Fatalf("seed %d, after %s: the snapshot is another one than without the one before", seed, change.name)
			}
		}
	}
}

// ageless gives members their ages to the second: a member that is kept keeps its own.
func ageless(all ...*snapshot) {
	for _, s := range all {
		for _, m := range s.members() {
			m.Age = m.Age.Truncate(time.Second)
		}
	}
}

func TestTimeAloneChangesWhatAMemberCountsAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, in := pieces()
		lists, runner := &scopes{}, registered(bitbucket.StatusUnregistered)
		runner.CreatedOn = time.Now()
		lists.show(id("acme", ""), time.Now(), runner)
		f := start(t, Config{Scopes: lists, Kubernetes: cluster{scaledJobs: in.scaledJobs, jobs: in.jobs, pods: in.pods}, MaxStaleness: time.Hour})
		for _, c := range []struct {
			after time.Duration
			want  State
		}{{StartLimit - rebuildEvery, Starting}, {2 * rebuildEvery, Lost}} {
			time.Sleep(c.after) // on the virtual clock
			synctest.Wait()
			if group, err := f.Group(in.scaledJobs[0].GroupKey); err != nil || group.Members[0].State != c.want {
				t.Errorf("after %s: got %+v, %v, want %s", c.after, group, err, c.want)
			}
		}
	})
}
