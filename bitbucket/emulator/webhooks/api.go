package webhooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// The limits of what a webhook may have.
const (
	maxDescription = 255
	maxSecret      = 128
)

// hookBody is Bitbucket's schema `webhook_subscription`. The secret is never in it.
type hookBody struct {
	Type        string        `json:"type"`
	UUID        string        `json:"uuid"`
	URL         string        `json:"url"`
	Description string        `json:"description"`
	SubjectType string        `json:"subject_type"`
	Active      bool          `json:"active"`
	SecretSet   bool          `json:"secret_set"`
	Events      []string      `json:"events"`
	CreatedAt   resource.Time `json:"created_at"`
}

// hookRequest is the body of a POST or a PUT. An absent part does not change.
type hookRequest struct {
	URL         *string  `json:"url"`
	Description *string  `json:"description"`
	Active      *bool    `json:"active"`
	Secret      *string  `json:"secret"`
	Events      []string `json:"events"`
}

// Call answers a call of Bitbucket's API about the webhooks of a subject: a workspace or a
// repository (kind), by its UUID. Links start with base. The body of the answer is nil if it
// has none.
func (s *Sender) Call(r *http.Request, body []byte, subject, kind, base string) (status int, answer any, err error) {
	view := func(h Hook) hookBody {
		return hookBody{"webhook_subscription", h.UUID, h.URL, h.Description, kind, !h.Inactive, h.Secret != "", h.Events, resource.At(s.begun)}
	}
	hooks := s.of(subject)
	uuid := r.PathValue("uuid")
	switch {
	case uuid == "" && r.Method == http.MethodPost:
		hook := Hook{Subject: subject, Inactive: true}
		if err = hook.change(body); err == nil {
			hook, err = s.Add(hook)
		}
		if err != nil {
			return http.StatusBadRequest, nil, err
		}
		return http.StatusCreated, view(hook), nil
	case uuid == "":
		asked, err := paging.Of(r.URL, base)
		if err != nil {
			return http.StatusBadRequest, nil, err
		}
		return http.StatusOK, paging.Map(paging.Cut(asked, hooks), view), nil
	}
	i := slices.IndexFunc(hooks, func(h Hook) bool { return h.UUID == uuid })
	if i < 0 {
		return http.StatusNotFound, nil, fmt.Errorf("Webhook %s not found", uuid) //nolint:revive,staticcheck // as Bitbucket's messages are
	}
	hook := hooks[i]
	switch r.Method {
	case http.MethodPut:
		if err = hook.change(body); err == nil {
			err = s.replace(hook)
		}
		if err != nil {
			return http.StatusBadRequest, nil, err
		}
	case http.MethodDelete:
		s.Remove(uuid)
		return http.StatusNoContent, nil, nil
	}
	return http.StatusOK, view(hook), nil
}

// of returns the webhooks of a workspace or a repository, oldest first.
func (s *Sender) of(subject string) []Hook {
	return slices.DeleteFunc(s.Record().Hooks, func(h Hook) bool { return h.Subject != subject })
}

// replace replaces the webhook that has the UUID of the given one.
func (s *Sender) replace(h Hook) error {
	if err := errors.Join(h.faults()...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.record.Hooks {
		if s.record.Hooks[i].UUID == h.UUID {
			s.record.Hooks[i] = h
		}
	}
	return nil
}

// change changes a webhook as a body says. A webhook without an event is refused.
func (h *Hook) change(body []byte) error {
	var given hookRequest
	if err := json.Unmarshal(body, &given); err != nil {
		return fmt.Errorf("the request body is not a webhook: %w", err)
	}
	set := func(into, from *string) {
		if from != nil {
			*into = *from
		}
	}
	set(&h.URL, given.URL)
	set(&h.Description, given.Description)
	set(&h.Secret, given.Secret)
	if given.Active != nil {
		h.Inactive = !*given.Active
	}
	if given.Events != nil {
		h.Events = given.Events
	}
	switch {
	case len(h.Description) > maxDescription:
		return fmt.Errorf("description: want at most %d characters", maxDescription)
	case len(h.Secret) > maxSecret:
		return fmt.Errorf("secret: want at most %d characters", maxSecret)
	case len(h.Events) == 0:
		return errors.New("events: required")
	}
	return nil
}
