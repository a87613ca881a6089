package story

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// RegisterOrphan registers a runner with our owner label and without a pod at the
// emulator, and returns its UUID.
func RegisterOrphan(ctx context.Context, client *http.Client, bitbucketURL, owner, label string) (uuid string, err error) {
	body, err := json.Marshal(map[string]any{"name": "left-behind-00000000", "labels": []string{"self.hosted", "linux", label, owner}})
	if err != nil {
		return "", fmt.Errorf("orphan: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, bitbucketURL+"/2.0/workspaces/acme/pipelines-config/runners", bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("orphan: %w", err)
	}
	req.Header.Set("Authorization", "Bearer emulator-access-token")
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("register an orphan: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var runner struct {
		UUID string `json:"uuid"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&runner); err != nil || runner.UUID == "" {
		return "", fmt.Errorf("register an orphan: %s: %w", resp.Status, err)
	}
	return runner.UUID, nil
}
