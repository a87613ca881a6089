package installation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

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
	Items []job `json:"items"`
}

type job struct {
	Metadata struct {
		Name      string            `json:"name"`
		CreatedOn time.Time         `json:"creationTimestamp"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Status struct {
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

// The conditions of Jobs that have ended.
const (
	complete = "Complete"
	failure  = "Failed"
)

// ended returns the condition with which it has ended; empty if it has not.
func (j job) ended() string {
	for _, condition := range j.Status.Conditions {
		if condition.Status == "True" && (condition.Type == complete || condition.Type == failure) {
			return condition.Type
		}
	}
	return ""
}

// group returns the name of its ScaledJob.
func (j job) group() string { return j.Metadata.Labels["scaledjob.keda.sh/name"] }

func (i *Installation) list(ctx context.Context) (list jobs, err error) {
	text, err := i.Kube.Run(ctx, "", "--namespace", Runners, "get", "jobs", "-o", "json")
	if err != nil {
		return jobs{}, err
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return jobs{}, fmt.Errorf("jobs: %w", err)
	}
	return list, nil
}

// Jobs returns the number of unfinished Jobs per ScaledJob, and the numbers of all
// completed and failed Jobs.
func (i *Installation) Jobs(ctx context.Context) (unfinished map[string]int, completed, failed int, err error) {
	list, err := i.list(ctx)
	if err != nil {
		return nil, 0, 0, err
	}
	unfinished = map[string]int{}
	for _, job := range list.Items {
		switch job.ended() {
		case complete:
			completed++
		case failure:
			failed++
		default:
			unfinished[job.group()]++
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
	list, err := s.list(ctx)
	if err != nil {
		return story.View{}, err
	}
	view.Jobs = map[string][]story.Job{}
	for _, job := range list.Items {
		if job.ended() == "" {
			group := job.group()
			view.Jobs[group] = append(view.Jobs[group], story.Job{Name: job.Metadata.Name, CreatedOn: job.Metadata.CreatedOn})
		}
	}
	var groups []status.Group
	if err := s.Get(ctx, "/status", &groups); err != nil {
		return story.View{}, err
	}
	view.Groups = groups
	return view, nil
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
