package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/webhooks"
)

// The limits of what a webhook may have.
const (
	maxHookDescription = 255
	maxHookSecret      = 128
)

// hookRoutes registers the routes of the webhooks of workspaces and repositories.
func (s *Server) hookRoutes() {
	for _, scope := range []string{"/2.0/workspaces/{workspace}", "/2.0/repositories/{workspace}/{repo_slug}"} {
		s.api("GET "+scope+"/hooks", access.Webhook, s.listHooks)
		s.api("POST "+scope+"/hooks", access.WebhookWrite, s.createHook)
		s.api("GET "+scope+"/hooks/{uuid}", access.Webhook, s.getHook)
		s.api("PUT "+scope+"/hooks/{uuid}", access.WebhookWrite, s.changeHook)
		s.api("DELETE "+scope+"/hooks/{uuid}", access.WebhookDelete, s.deleteHook)
	}
}

// hookBody is Bitbucket's schema `webhook_subscription`. The secret is never in it.
type hookBody struct {
	Type        string         `json:"type"`
	UUID        string         `json:"uuid"`
	URL         string         `json:"url"`
	Description string         `json:"description"`
	SubjectType string         `json:"subject_type"`
	Active      bool           `json:"active"`
	SecretSet   bool           `json:"secret_set"`
	Events      []string       `json:"events"`
	CreatedAt   resource.Time  `json:"created_at"`
	Links       resource.Links `json:"links"`
}

// hookRequest is the body of a POST or a PUT. An absent part does not change.
type hookRequest struct {
	URL         *string  `json:"url"`
	Description *string  `json:"description"`
	Active      *bool    `json:"active"`
	Secret      *string  `json:"secret"`
	Events      []string `json:"events"`
}

func (s *Server) hookBody(c *call, h webhooks.Hook) hookBody {
	kind := "workspace"
	if c.PathValue("repo_slug") != "" {
		kind = "repository"
	}
	return hookBody{
		Type: "webhook_subscription", UUID: h.UUID, URL: h.URL, Description: h.Description, SubjectType: kind, Active: !h.Inactive,
		SecretSet: h.Secret != "", Events: h.Events, CreatedAt: resource.At(s.begun), Links: resource.Links{},
	}
}

// hooksOf returns the UUID of the workspace or the repository in the call's path, and its
// webhooks.
func (s *Server) hooksOf(c *call) (subject string, hooks []webhooks.Hook, refusal answer, ok bool) {
	scope, refusal, ok := s.scopeOf(c)
	if !ok {
		return "", nil, refusal, false
	}
	subject = scope.workspace.UUID
	if scope.repository != nil {
		subject = scope.repository.UUID
	}
	return subject, s.webhooks.Of(subject), answer{}, true
}

// hookOf returns the webhook in the call's path.
func (s *Server) hookOf(c *call) (hook webhooks.Hook, refusal answer, ok bool) {
	_, hooks, refusal, ok := s.hooksOf(c)
	if !ok {
		return webhooks.Hook{}, refusal, false
	}
	i := slices.IndexFunc(hooks, func(h webhooks.Hook) bool { return h.UUID == c.PathValue("uuid") })
	if i < 0 {
		return webhooks.Hook{}, failure(http.StatusNotFound, fmt.Sprintf("Webhook %s not found", c.PathValue("uuid"))), false
	}
	return hooks[i], answer{}, true
}

func (s *Server) listHooks(c *call) answer {
	_, hooks, refusal, ok := s.hooksOf(c)
	if !ok {
		return refusal
	}
	asked, err := paging.Of(c.URL, c.base)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	return jsonAnswer(http.StatusOK, paging.Map(paging.Cut(asked, hooks), func(h webhooks.Hook) hookBody { return s.hookBody(c, h) }))
}

func (s *Server) getHook(c *call) answer {
	hook, refusal, ok := s.hookOf(c)
	if !ok {
		return refusal
	}
	return jsonAnswer(http.StatusOK, s.hookBody(c, hook))
}

func (s *Server) createHook(c *call) answer {
	subject, _, refusal, ok := s.hooksOf(c)
	if !ok {
		return refusal
	}
	hook := webhooks.Hook{Subject: subject, Inactive: true}
	if refusal, ok := readHook(c, &hook); !ok {
		return refusal
	}
	hook, err := s.webhooks.Add(hook)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	s.site = c.site()
	return jsonAnswer(http.StatusCreated, s.hookBody(c, hook))
}

func (s *Server) changeHook(c *call) answer {
	hook, refusal, ok := s.hookOf(c)
	if !ok {
		return refusal
	}
	if refusal, ok := readHook(c, &hook); !ok {
		return refusal
	}
	if err := s.webhooks.Change(hook); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	return jsonAnswer(http.StatusOK, s.hookBody(c, hook))
}

func (s *Server) deleteHook(c *call) answer {
	hook, refusal, ok := s.hookOf(c)
	if !ok {
		return refusal
	}
	s.webhooks.Remove(hook.UUID)
	return noContent()
}

// readHook changes a webhook as a body says. A webhook without an event is refused.
func readHook(c *call, h *webhooks.Hook) (refusal answer, ok bool) {
	var given hookRequest
	if err := json.Unmarshal(c.body, &given); err != nil {
		return failure(http.StatusBadRequest, "The request body is not a webhook: "+err.Error()), false
	}
	faults := map[string][]string{}
	if given.URL != nil {
		h.URL = *given.URL
	}
	if given.Active != nil {
		h.Inactive = !*given.Active
	}
	if given.Description != nil {
		if h.Description = *given.Description; len(h.Description) > maxHookDescription {
			faults["description"] = []string{fmt.Sprintf("at most %d characters", maxHookDescription)}
		}
	}
	if given.Secret != nil {
		if h.Secret = *given.Secret; len(h.Secret) > maxHookSecret {
			faults["secret"] = []string{fmt.Sprintf("at most %d characters", maxHookSecret)}
		}
	}
	if given.Events != nil {
		h.Events = given.Events
	}
	if len(h.Events) == 0 {
		faults["events"] = []string{"required"}
	}
	if len(faults) > 0 {
		return badFields(faults), false
	}
	return answer{}, true
}
