package testbed

import (
	"context"
	"maps"
	"net/http"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
)

// Stage plays a story on a test bed; it implements story.Stage.
type Stage struct {
	bed  *Bed
	uids []string // of the ScaledJobs
}

// NewStage applies a ScaledJob for each group in the emulator's workspace. The settings are
// those that the triggers have beside the groups' own.
func NewStage(bed *Bed, groups []story.Group, settings map[string]string) *Stage {
	s := &Stage{bed: bed}
	for _, g := range groups {
		metadata := map[string]string{"scalerAddress": bed.GRPCAddress, "workspace": story.Workspace}
		maps.Copy(metadata, g.Metadata())
		maps.Copy(metadata, settings)
		s.uids = append(s.uids, bed.Apply(fleet.GroupKey{Namespace: "bitbucket-runner", Name: g.Name}, metadata).UID)
	}
	return s
}

// Look implements story.Stage.
func (s *Stage) Look(ctx context.Context) (story.View, error) {
	state, err := s.bed.Control.State(ctx)
	if err != nil {
		return story.View{}, err
	}
	view := story.View{Bitbucket: state, Groups: s.bed.Groups(), Jobs: map[string][]story.Job{}}
	names := map[string]string{} // of the ScaledJobs, by UID
	for _, scaledJob := range s.bed.Cluster.ScaledJobs() {
		names[scaledJob.UID] = scaledJob.Name
	}
	for _, job := range s.bed.Cluster.Unfinished() {
		group := names[job.ScaledJobUID]
		view.Jobs[group] = append(view.Jobs[group], story.Job{Name: job.Name, CreatedOn: job.CreatedOn})
	}
	return view, nil
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
