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

// event sends an event of a repository to the webhooks that want it.
func (s *Server) event(key string, n resource.Names, payload func(resource.Site) any) {
	if s.webhooks.Wanted(key, n) {
		s.webhooks.Send(key, n, payload(s.site))
	}
}

// announce sends what Bitbucket sends of a new pipeline: only the status of its commit.
func (s *Server) announce(p *pipelines.Pipeline, now time.Time) {
	s.event(webhooks.CommitStatusCreated, p.Repository.Names(), func(site resource.Site) any {
		return webhooks.CommitStatus(site, p, Username, now)
	})
}

func (s *Server) reportStep(st *pipelines.Step) {
	s.event(webhooks.SpanCreated, st.Pipeline.Repository.Names(), func(resource.Site) any { return webhooks.StepSpan(st) })
}

func (s *Server) pipelineEnded(p *pipelines.Pipeline, now time.Time) {
	s.event(webhooks.CommitStatusUpdated, p.Repository.Names(), func(site resource.Site) any {
		return webhooks.CommitStatus(site, p, Username, now)
	})
	s.event(webhooks.SpanCreated, p.Repository.Names(), func(resource.Site) any { return webhooks.RunSpan(p) })
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
	s.event(given.Event, repo.Names(), func(site resource.Site) any {
		return webhooks.Changed(site, repo.Names(), Username, given.Event, webhooks.PullRequest{
			ID: 1, Branch: given.Branch, Source: repo.source.Head(given.Branch), Target: repo.source.Head(mainBranch),
		}, c.now)
	})
	return noContent()
}
