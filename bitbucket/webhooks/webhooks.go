// Package webhooks sets up webhooks of a workspace or a repository at Bitbucket Cloud. What
// they deliver is in package externalscaler/webhook.
package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"bitbucket-runner-scaler/bitbucket"
)

// Events are the least events from which the scaler learns of work in time: a status of a
// commit when a pipeline starts and ends, a push, and the end of a step.
func Events() []string {
	return []string{"repo:push", "repo:commit_status_created", "repo:commit_status_updated", "pipeline:span_created"}
}

// Hook is a webhook as Bitbucket lists it.
type Hook struct {
	// UUID is in braces.
	UUID        string   `json:"uuid"`
	Description string   `json:"description"`
	URL         string   `json:"url"`
	Active      bool     `json:"active"`
	Events      []string `json:"events"`
	// SecretSet reports whether it has a secret, which Bitbucket never shows. It is nil if
	// Bitbucket does not say so.
	SecretSet *bool `json:"secret_set,omitempty"`
}

// Settings are what a webhook should be.
type Settings struct {
	Description string
	URL         string
	Events      []string
	// Secret is left as it is if it is empty.
	Secret bitbucket.Secret
}

// settings is the body of a POST or a PUT.
type settings struct {
	Description string   `json:"description"`
	URL         string   `json:"url"`
	Active      bool     `json:"active"`
	Events      []string `json:"events"`
	Secret      string   `json:"secret,omitempty"`
}

func (s Settings) body() settings {
	return settings{s.Description, s.URL, true, s.Events, s.Secret.Reveal()}
}

const (
	pageLength = 100
	// maxPages bounds a list. Bitbucket allows some dozens of webhooks.
	maxPages = 20
)

// List returns all webhooks of a scope.
func List(ctx context.Context, client *bitbucket.Client, scope bitbucket.Scope) ([]Hook, error) {
	var hooks []Hook
	for number := 1; number <= maxPages; number++ {
		body, err := client.Hooks(ctx, http.MethodGet, scope, "", url.Values{"pagelen": {strconv.Itoa(pageLength)}, "page": {strconv.Itoa(number)}}, nil)
		if err != nil {
			return nil, fmt.Errorf("list the webhooks of %s: %w", scope, err)
		}
		var page struct {
			Values []Hook `json:"values"`
			Size   int    `json:"size"`
			Next   string `json:"next"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, fmt.Errorf("list the webhooks of %s: decode page %d: %w", scope, number, err)
		}
		hooks = append(hooks, page.Values...)
		if len(page.Values) == 0 || page.Next == "" && page.Size <= len(hooks) {
			return hooks, nil
		}
	}
	return nil, fmt.Errorf("list the webhooks of %s: the list has no end after %d pages", scope, maxPages)
}

// Create makes a webhook.
func Create(ctx context.Context, client *bitbucket.Client, scope bitbucket.Scope, s Settings) (Hook, error) {
	body, err := client.Hooks(ctx, http.MethodPost, scope, "", nil, s.body())
	if err != nil {
		return Hook{}, fmt.Errorf("create a webhook of %s: %w", scope, err)
	}
	return decode(body)
}

// Update changes a webhook.
func Update(ctx context.Context, client *bitbucket.Client, scope bitbucket.Scope, uuid string, s Settings) (Hook, error) {
	if err := check(uuid); err != nil {
		return Hook{}, err
	}
	body, err := client.Hooks(ctx, http.MethodPut, scope, uuid, nil, s.body())
	if err != nil {
		return Hook{}, fmt.Errorf("change the webhook %s of %s: %w", uuid, scope, err)
	}
	return decode(body)
}

// Delete removes a webhook. It returns nil if the webhook does not exist.
func Delete(ctx context.Context, client *bitbucket.Client, scope bitbucket.Scope, uuid string) error {
	if err := check(uuid); err != nil {
		return err
	}
	if _, err := client.Hooks(ctx, http.MethodDelete, scope, uuid, nil, nil); err != nil && !errors.Is(err, bitbucket.ErrNotFound) {
		return fmt.Errorf("delete the webhook %s of %s: %w", uuid, scope, err)
	}
	return nil
}

// check refuses an identifier that does not address one webhook.
func check(uuid string) error {
	if !bitbucket.IsUUID(uuid) {
		return fmt.Errorf("webhook %q: want a UUID in braces", uuid)
	}
	return nil
}

func decode(body []byte) (h Hook, err error) {
	if err := json.Unmarshal(body, &h); err != nil {
		return Hook{}, fmt.Errorf("decode the webhook: %w", err)
	}
	return h, nil
}
