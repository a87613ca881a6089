package testbed

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
)

// Stage plays a story on a test bed; it implements story.Stage.
type Stage struct {
	bed  *Bed
	uids []string // of the ScaledJobs
}

// NewStage applies a ScaledJob for each group in the emulator's workspace.
// coolDown is that of the triggers.
func NewStage(bed *Bed, groups []story.Group, coolDown time.Duration) *Stage {
	s := &Stage{bed: bed}
	for _, g := range groups {
		s.uids = append(s.uids, bed.Apply(fleet.GroupKey{Namespace: "bitbucket-runner", Name: g.Name}, map[string]string{
			"scalerAddress": bed.GRPCAddress, "workspace": "acme", "labels": g.Label,
			"min": strconv.Itoa(g.Min), "max": strconv.Itoa(g.Max), "coolDown": coolDown.String(),
		}).UID)
	}
	return s
}

// Look implements story.Stage.
func (s *Stage) Look(ctx context.Context) (story.View, error) {
	state, err := s.bed.Control.State(ctx)
	if err != nil {
		return story.View{}, err
	}
	view := story.View{Bitbucket: state, Groups: s.bed.Groups(), Jobs: map[string]int{}}
	for _, scaledJob := range s.bed.Cluster.ScaledJobs() {
		view.Jobs[scaledJob.Name] = len(s.bed.Cluster.JobsOf(scaledJob.UID))
	}
	if len(s.uids) == 0 {
		view.Jobs["deleted"] = len(s.bed.Cluster.Unfinished())
	}
	return view, nil
}

// Queue implements story.Stage.
func (s *Stage) Queue(ctx context.Context, label string, count int, duration time.Duration) error {
	_, err := s.bed.Control.QueueSteps(ctx, emulator.StepRequest{
		Workspace: "acme", Repository: "app", Labels: []string{"linux", label}, Duration: duration.String(), Count: count,
	})
	return err
}

// Orphan implements story.Stage.
func (s *Stage) Orphan(ctx context.Context) (string, error) {
	return story.RegisterOrphan(ctx, http.DefaultClient, s.bed.BitbucketURL, s.bed.Owner(), "builds")
}

// Remove implements story.Stage.
func (s *Stage) Remove(context.Context) error {
	for _, uid := range s.uids {
		s.bed.Delete(uid)
	}
	s.uids = nil
	return nil
}
