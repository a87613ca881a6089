package installation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
)

// Stage runs the story on an installation. It implements story.Stage.
type Stage struct {
	*Installation
	// Groups are the ScaledJobs to delete at the end.
	Groups []string
}

// jobs contains the fields of a list of Jobs that are read.
type jobs struct {
	Items []struct {
		Metadata struct {
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
		Status struct {
			Conditions []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
			} `json:"conditions"`
		} `json:"status"`
	} `json:"items"`
}

// Jobs returns the number of unfinished Jobs per ScaledJob, and the numbers of all
// completed and failed Jobs.
func (i *Installation) Jobs(ctx context.Context) (unfinished map[string]int, completed, failed int, err error) {
	text, err := i.Kube.Run(ctx, "", "--namespace", Runners, "get", "jobs", "-o", "json")
	if err != nil {
		return nil, 0, 0, err
	}
	var list jobs
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, 0, 0, fmt.Errorf("jobs: %w", err)
	}
	unfinished = map[string]int{}
	for _, job := range list.Items {
		ended := ""
		for _, condition := range job.Status.Conditions {
			if condition.Status == "True" && (condition.Type == "Complete" || condition.Type == "Failed") {
				ended = condition.Type
			}
		}
		switch ended {
		case "Complete":
			completed++
		case "Failed":
			failed++
		default:
			unfinished[job.Metadata.Labels["scaledjob.keda.sh/name"]]++
		}
	}
	return unfinished, completed, failed, nil
}

// Look implements story.Stage.
func (s *Stage) Look(ctx context.Context) (story.View, error) {
	state, err := s.Control.State(ctx)
	if err != nil {
		return story.View{}, err
	}
	view := story.View{Bitbucket: state}
	if view.Jobs, _, _, err = s.Jobs(ctx); err != nil {
		return story.View{}, err
	}
	var groups []status.Group
	if err := s.Get(ctx, "/status", &groups); err != nil {
		return story.View{}, err
	}
	view.Groups = groups
	return view, nil
}

// Queue implements story.Stage.
func (s *Stage) Queue(ctx context.Context, label string, count int, duration time.Duration) error {
	_, err := s.Control.QueueSteps(ctx, emulator.StepRequest{
		Workspace: "acme", Repository: "app", Labels: []string{"self.hosted", "linux", label}, Duration: duration.String(), Count: count,
	})
	return err
}

// Orphan implements story.Stage. The runner has the owner label of a real one.
func (s *Stage) Orphan(ctx context.Context) (string, error) {
	state, err := s.Control.State(ctx)
	if err != nil {
		return "", err
	}
	for _, runner := range state.Runners {
		for _, label := range runner.Labels {
			if len(label) > 5 && label[:5] == "keda." {
				return story.RegisterOrphan(ctx, http.DefaultClient, s.BitbucketURL, label, "builds")
			}
		}
	}
	return "", fmt.Errorf("none of %d runners is ours", len(state.Runners))
}

// Remove implements story.Stage.
func (s *Stage) Remove(ctx context.Context) error {
	for _, name := range s.Groups {
		if err := s.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
