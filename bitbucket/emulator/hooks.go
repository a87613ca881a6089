package emulator

import (
	"net/http"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
)

// hookRoutes registers the routes of the webhooks of workspaces and repositories.
func (s *Server) hookRoutes() {
	for _, scope := range []string{"/2.0/workspaces/{workspace}/hooks", "/2.0/repositories/{workspace}/{repo_slug}/hooks"} {
		s.api("GET "+scope, access.Webhook, s.hooks)
		s.api("POST "+scope, access.WebhookWrite, s.hooks)
		s.api("GET "+scope+"/{uuid}", access.Webhook, s.hooks)
		s.api("PUT "+scope+"/{uuid}", access.WebhookWrite, s.hooks)
		s.api("DELETE "+scope+"/{uuid}", access.WebhookDelete, s.hooks)
	}
}

func (s *Server) hooks(c *call) answer {
	scope, refusal, ok := s.scopeOf(c)
	if !ok {
		return refusal
	}
	subject := scope.workspace.UUID
	if scope.repository != nil {
		subject = scope.repository.UUID
	}
	if c.Method == http.MethodPost {
		s.site = c.site()
	}
	switch status, body, err := s.webhooks.Call(c.Request, c.body, subject, scope.kind, c.base); {
	case err != nil:
		return failure(status, err.Error())
	case body == nil:
		return noContent()
	default:
		return jsonAnswer(status, body)
	}
}
