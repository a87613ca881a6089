package controlplane_test

import (
	"slices"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

func TestAJobThatCannotStartIsExplainedWithinAMinute(t *testing.T) {
	t.Parallel()
	virtually(t, 1, func(w *world) {
		group := w.apply("builds", "w0", map[string]string{"min": "1", "max": "5"}, works)
		w.after(5 * time.Minute)
		job, _ := w.cluster.CreateJob(group)
		w.cluster.Schedule(job.UID, "node")
		w.cluster.Wait(job.UID, fleet.Cause{Reason: "ImagePullBackOff", Message: "container sidecar: not found", CannotStart: true})
		saidWithin := func(limit time.Duration, reason, message string) {
			t.Helper()
			event := testbed.Event{Group: group.GroupKey, Reason: reason, Message: message}
			for begun := time.Now(); !slices.Contains(w.cluster.EventsSeen(), event); time.Sleep(time.Second) {
				if time.Since(begun) > limit {
					t.Errorf("after %s the Events are %v", limit, w.cluster.EventsSeen())
					return
				}
			}
		}
		saidWithin(time.Minute, "JobWaiting", "Job "+job.Name+" does not come to a runner: ImagePullBackOff: container sidecar: not found")
		want := []status.Waiting{{Reason: "ImagePullBackOff", Message: "container sidecar: not found", Job: job.Name, Jobs: 1}}
		if got := w.shown("builds").Waiting; !slices.Equal(got, want) {
			t.Errorf("/status shows %+v, want %+v", got, want)
		}
		saidWithin(15*time.Minute, "Stuck", "Job "+job.Name+" was ended: it has not asked for a runner within 10m0s (ImagePullBackOff: container sidecar: not found)")
	})
}
