package fleet

import (
	"testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/queue"
)

func TestAStepThatIsRetriedWaitsAgainWhateverItsLastRunnerDoesNow(t *testing.T) {
	c, in := pieces()
	in.scaledJobs[0].Metadata["strategy"] = "queuedSteps"
	retried := queue.StepID{Repository: otherUUID, Pipeline: "{p}", Step: "{retried}"}
	next := queue.StepID{Repository: otherUUID, Pipeline: "{p}", Step: "{next}"}
	in.views[id("acme", "")] = shown(id("acme", ""), acmeUUID, registered(bitbucket.StatusOnline))
	in.reports["pod-uid"] = &podMemory{reported: true, Telemetry: Telemetry{
		Attached: true, Activity: ActivityBusy, StepUUID: next.Step, Run: queue.Run{Running: next, Ended: retried, Result: "FAILED"}, Since: now,
	}}
	in.queue = &queue.Snapshot{}
	for _, step := range []queue.StepID{retried, next} {
		in.queue.Steps = append(in.queue.Steps, queue.Step{
			StepID: step, Scope: bitbucket.Scope{Workspace: acmeUUID, Repository: otherUUID}, Labels: pipelines.Labels{"self.hosted", "a"}, Since: now,
		})
	}
	s, _ := c.build(in)
	if got := s.groups[GroupKey{"ns", "builds"}].Observation; got.Queued != 1 || got.Busy != 1 {
		t.Errorf("got %+v, want the step that is retried, and not the one that runs", got)
	}
}
