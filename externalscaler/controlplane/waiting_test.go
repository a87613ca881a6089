package controlplane_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

func TestAJobThatCannotStartIsExplainedWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		simulate(t, zap.NewNop(), func(s *simulation) {
			group := s.apply("builds", map[string]string{"min": "1", "max": "5"})
			s.after(5 * time.Minute)
			job, _ := s.cluster.CreateJob(group)
			s.cluster.Schedule(job.UID, "node")
			s.cluster.Wait(job.UID, fleet.Cause{Reason: "ImagePullBackOff", Message: "container sidecar: not found", CannotStart: true})
			says := func(event testbed.Event) func() bool {
				return func() bool { return slices.Contains(s.cluster.EventsSeen(), event) }
			}
			within := func(limit time.Duration, done func() bool) bool {
				for begun := time.Now(); time.Since(begun) < limit; s.sleep(time.Second) {
					if done() {
						return true
					}
				}
				return false
			}
			if !within(time.Minute, says(testbed.Event{Group: group.GroupKey, Reason: "JobWaiting", Message: "Job " + job.Name + " does not come to a runner: ImagePullBackOff: container sidecar: not found"})) {
				t.Errorf("the Events are %v", s.cluster.EventsSeen())
			}
			want := []status.Waiting{{Reason: "ImagePullBackOff", Message: "container sidecar: not found", Job: job.Name, Jobs: 1}}
			if got := s.plane.Status().Groups()[0].Waiting; !slices.Equal(got, want) {
				t.Errorf("/status shows %+v, want %+v", got, want)
			}
			if !within(15*time.Minute, says(testbed.Event{Group: group.GroupKey, Reason: "Stuck", Message: "Job " + job.Name + " was ended: it has not asked for a runner within 10m0s (ImagePullBackOff: container sidecar: not found)"})) {
				t.Errorf("the Events are %v", s.cluster.EventsSeen())
			}
		})
	})
}
