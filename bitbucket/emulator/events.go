package emulator

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/webhooks"
)

// event sends an event to the webhooks that want it.
func (s *Server) event(key string, payload func(resource.Site) any) {
	if s.webhooks.Wanted(key) {
		s.deliver(key, payload(s.site))
	}
}

// host is the emulator for the engine of its pipelines.
type host struct{ server *Server }

// Started sends what Bitbucket sends of a new pipeline: only the status of its commit. A further
// run changes that status.
func (h host) Started(p *pipelines.Pipeline, now time.Time) {
	if repo, ok := p.Repository.(*repository); ok {
		repo.updatedOn = now
	}
	event := webhooks.CommitStatusCreated
	if p.Run > 1 {
		event = webhooks.CommitStatusUpdated
	}
	h.server.event(event, func(site resource.Site) any {
		return webhooks.CommitStatus(site, p, Username, now)
	})
}

// StepEnded sends the span of a step.
func (h host) StepEnded(st *pipelines.Step) {
	h.server.event(webhooks.SpanCreated, func(resource.Site) any { return webhooks.StepSpan(st) })
}

// Completed sends the status of the commit and the span of a pipeline.
func (h host) Completed(p *pipelines.Pipeline, forgotten []*pipelines.Pipeline, now time.Time) {
	if repo, ok := p.Repository.(*repository); ok {
		repo.updatedOn = now
	}
	h.server.event(webhooks.CommitStatusUpdated, func(site resource.Site) any {
		return webhooks.CommitStatus(site, p, Username, now)
	})
	h.server.event(webhooks.SpanCreated, func(resource.Site) any { return webhooks.RunSpan(p) })
	for _, old := range forgotten {
		if repo, ok := old.Repository.(*repository); ok {
			repo.source.Drop(old.Target.Commit)
		}
	}
}

// addWebhook registers a webhook. Links in payloads start with the address of the last such
// call, unless Options.PublicURL is set.
func (s *Server) addWebhook(c *call) answer {
	var given WebhookRequest
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	hook, err := s.webhooks.Add(webhooks.Hook{URL: given.URL, Secret: given.Secret, Events: given.Events})
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	s.site = c.site()
	return jsonAnswer(http.StatusOK, hook)
}

func (s *Server) removeWebhook(c *call) answer {
	if !s.webhooks.Remove(c.PathValue("uuid")) {
		return failure(http.StatusNotFound, fmt.Sprintf("Webhook %s not found", c.PathValue("uuid")))
	}
	return noContent()
}

// sendEvent sends an event of a pull request.
func (s *Server) sendEvent(c *call) answer {
	var given EventRequest
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	repo, ok := s.findRepository(given.Workspace, given.Repository)
	switch {
	case !ok:
		return failure(http.StatusBadRequest, fmt.Sprintf("workspace, repository: no %q in %q", given.Repository, given.Workspace))
	case !strings.HasPrefix(given.Event, "pullrequest:"):
		return failure(http.StatusBadRequest, fmt.Sprintf("event: %q, want pullrequest:created and the like", given.Event))
	case repo.source.Head(given.Branch) == "":
		return failure(http.StatusBadRequest, fmt.Sprintf("branch: no %q, push to it first", given.Branch))
	}
	s.changePullRequest(repo, given.Event, given.Branch, c.now)
	return noContent()
}

func (s *Server) changePullRequest(repo *repository, event, branch string, now time.Time) {
	s.event(event, func(site resource.Site) any {
		return webhooks.Changed(site, repo.Names(), Username, event, webhooks.PullRequest{
			ID: 1, Branch: branch, Source: repo.source.Head(branch), Target: repo.source.Head(mainBranch),
		}, now)
	})
}
