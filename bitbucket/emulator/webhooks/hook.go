package webhooks

import (
	"fmt"
	"net/url"
	"slices"

	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// Hook is a webhook.
type Hook struct {
	// UUID is in braces.
	UUID string `json:"uuid"`
	URL  string `json:"url"`
	// Secret signs the deliveries. Without it they have no signature.
	Secret string `json:"-"`
	// Events are the keys of the events that it receives.
	Events []string `json:"events"`
	// Subject is the UUID of the workspace or the repository whose events it receives. If
	// it is empty, it receives those of all.
	Subject     string `json:"subject,omitempty"`
	Description string `json:"description,omitempty"`
	// Inactive webhooks receive nothing.
	Inactive bool `json:"inactive,omitempty"`
}

// wants reports whether the webhook receives an event of a repository.
func (h Hook) wants(event string, n resource.Names) bool {
	return !h.Inactive && slices.Contains(h.Events, event) && (h.Subject == "" || h.Subject == n.UUID || h.Subject == n.WorkspaceUUID)
}

// faults returns all faults of the webhook.
func (h Hook) faults() (faults []error) {
	if u, err := url.Parse(h.URL); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		faults = append(faults, fmt.Errorf("url: %q, want http(s)://host[:port]/path", h.URL))
	}
	for _, e := range h.Events {
		if !slices.Contains(events, e) {
			faults = append(faults, fmt.Errorf("events: %q, want some of %q", e, events))
		}
	}
	return faults
}
