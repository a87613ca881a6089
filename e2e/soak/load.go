package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

// The load is one pipeline of each repository in turn, of five steps, every pushEvery.
const (
	pushEvery = 30 * time.Second
	polling   = 5 * time.Second // KEDA's, as in the example
	workspace = "acme"
)

// groups are the kinds of runner groups: by the steps of a repository with runners that
// take many, by those of another with ephemeral ones, and by the share of busy runners.
var groups = []struct {
	name, repository string
	metadata         map[string]string
}{
	{"queued", "api", map[string]string{"strategy": "queuedSteps", "repository": "api", "min": "1", "max": "6"}},
	{"ephemeral", "lib", map[string]string{"strategy": "queuedSteps", "repository": "lib", "ephemeral": "true", "min": "0", "max": "6"}},
	{"ratio", "tools", map[string]string{"min": "1", "max": "4"}},
}

const fiveSteps = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, LABEL], script: [sleep 10]}
    - parallel:
        - step: &test {name: Test, runs-on: [self.hosted, linux, LABEL], script: [sleep 20]}
        - step: *test
        - step: *test
    - step: {name: Report, runs-on: [self.hosted, linux, LABEL], script: [sleep 5]}
`

const stepsOfPipeline = 5

// applyGroups applies the groups and the webhook.
func (s *soak) applyGroups(ctx context.Context) error {
	for _, g := range groups {
		metadata := map[string]string{"labels": g.name}
		for key, value := range g.metadata {
			metadata[key] = value
		}
		if err := s.installed.Apply(ctx, installation.Edit{Name: g.name, Metadata: metadata, PollingInterval: polling}); err != nil {
			return err
		}
	}
	return s.installed.Hook(ctx)
}

// push pushes a commit to the next repository, and notes its pipeline.
func (s *soak) push(ctx context.Context) error {
	g := groups[len(s.pipelines)%len(groups)]
	pushed, err := s.installed.Control.Push(ctx, emulator.PushRequest{
		Workspace: workspace, Repository: g.repository, Branch: "main", File: strings.ReplaceAll(fiveSteps, "LABEL", g.name),
	})
	if err != nil {
		return fmt.Errorf("push to %s: %w", g.repository, err)
	}
	s.pipelines[pushed.Pipeline] = true
	return nil
}

// look notes the steps that have ended since the last look: the emulator forgets ended
// steps after a while.
func (s *soak) look(state emulator.State) {
	for _, step := range state.Steps {
		if !s.pipelines[step.PipelineUUID] {
			continue
		}
		switch step.Outcome {
		case emulator.OutcomePassed:
			s.passed[step.UUID] = step.StartedOn.Sub(step.QueuedOn)
		case emulator.OutcomeFailed, emulator.OutcomeError:
			s.failed[step.UUID] = strings.TrimSpace(step.Repository + " " + step.Name + ": " + step.Outcome + " " + step.Cause)
		}
	}
}

// drainLoad waits until all steps have ended.
func (s *soak) drainLoad(ctx context.Context) error {
	want := stepsOfPipeline * len(s.pipelines)
	return installation.Until(ctx, patience, fmt.Sprintf("%d steps to end", want), func() (bool, error) {
		state, err := s.installed.Control.State(ctx)
		if err != nil {
			return false, err
		}
		s.look(state)
		return len(s.passed)+len(s.failed) >= want, nil
	})
}

// removeGroups deletes the groups and waits until nothing of them is left.
func (s *soak) removeGroups(ctx context.Context) error {
	for _, g := range groups {
		if err := s.installed.Delete(ctx, g.name); err != nil {
			return err
		}
	}
	return installation.Until(ctx, patience, "no runner, no Job and no pod to be left", func() (bool, error) {
		last, err := s.sample(ctx)
		return last.Runners == 0 && last.Jobs == 0 && last.Pods == 0, err
	})
}

// patience bounds each wait for a condition: several polls at the defaults, and the grace
// after which an orphan is removed.
const patience = 15 * time.Minute
