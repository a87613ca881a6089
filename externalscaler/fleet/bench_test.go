package fleet

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// many is what a snapshot of 100 groups with ten Jobs each is built from, in ten scopes. Nearly all of
// them have a runner.
func many() (Config, input) {
	c, in := pieces()
	in.scaledJobs, in.jobs, in.pods = nil, nil, nil
	for g := range 100 {
		workspace, label, uid := fmt.Sprintf("w%d", g%10), fmt.Sprintf("g%d", g), fmt.Sprintf("group-%d", g)
		metadata := of(workspace, "", label)
		metadata["strategy"] = "queuedSteps"
		in.scaledJobs = append(in.scaledJobs, ScaledJob{GroupKey: GroupKey{"ns", label}, UID: uid, CreatedOn: now.Add(-time.Hour), Generation: "1", Metadata: metadata})
		view := in.views[id(workspace, "")]
		if view == nil {
			view = shown(id(workspace, ""), fmt.Sprintf("{%08d-1111-4111-8111-111111111111}", g))
			in.views[id(workspace, "")] = view
		}
		for r := range 10 {
			name := fmt.Sprintf("%s-%d", label, r)
			pod := &Pod{Namespace: "ns", Name: name + "-pod", UID: name + "-pod-uid", Node: "node"}
			in.jobs = append(in.jobs, Job{Namespace: "ns", Name: name, UID: name + "-uid", ScaledJobUID: uid, Generation: "1", Pod: pod})
			in.pods = append(in.pods, *pod)
			if g < 10 && r == 9 {
				continue // it starts
			}
			runner := registered(bitbucket.StatusOnline)
			runner.UUID, runner.Name, runner.Labels = fmt.Sprintf("{%08d-0000-4000-8000-%012d}", g, r), scope.RunnerName(pod.Name, pod.UID), []string{label, owner, "linux", "self.hosted"}
			view.Runners = append(view.Runners, runner)
			report := Telemetry{Attached: true, RunnerUUID: runner.UUID, Activity: ActivityIdle, Since: now.Add(-time.Minute)}
			if r%3 > 0 {
				step := queue.StepID{Repository: "{r}", Pipeline: "{p}", Step: "{" + name + "}"}
				report.Activity, report.StepUUID, report.Run = ActivityBusy, step.Step, queue.Run{Running: step}
			}
			in.reports[pod.UID] = &podMemory{Telemetry: report, reported: true}
		}
	}
	in.queue = &queue.Snapshot{}
	_, found := c.build(in)
	in.history = found.history
	return c, in
}

// BenchmarkBuild measures how long a snapshot takes at each second, and after a runner has reported.
func BenchmarkBuild(b *testing.B) {
	c, in := many()
	for name, prepare := range map[string]func(){
		"second": in.history.forgetMembers,
		"report": func() { again := *in.reports["g17-3-pod-uid"]; in.reports["g17-3-pod-uid"] = &again },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				prepare()
				in.reports = maps.Clone(in.reports)
				_, found := c.build(in)
				in.history = found.history
			}
		})
	}
}
