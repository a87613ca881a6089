package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Control speaks to a running emulator's own routes.
type Control struct {
	base   string
	client *http.Client
}

// NewControl makes a Control of the emulator at that URL.
func NewControl(baseURL string) *Control {
	return &Control{base: strings.TrimSuffix(baseURL, "/"), client: &http.Client{Timeout: 30 * time.Second}}
}

// QueueSteps queues parallel steps and gives their UUIDs.
func (c *Control) QueueSteps(ctx context.Context, request StepRequest) ([]string, error) {
	var answer struct {
		Steps []string `json:"steps"`
	}
	err := c.do(ctx, http.MethodPost, "/_emulator/steps", request, &answer)
	return answer.Steps, err
}

// State gives everything that there is.
func (c *Control) State(ctx context.Context) (State, error) {
	var state State
	err := c.do(ctx, http.MethodGet, "/_emulator/state", nil, &state)
	return state, err
}

// SetFaults replaces the rules; none ends all faults.
func (c *Control) SetFaults(ctx context.Context, rules []FaultRule) error {
	return c.do(ctx, http.MethodPost, "/_emulator/faults", map[string]any{"rules": rules}, nil)
}

// SetRunner sets a runner's state by hand: online, step, idle, offline or
// unhealthy; stepUUID is for step alone.
func (c *Control) SetRunner(ctx context.Context, uuid, action, stepUUID string) error {
	return c.do(ctx, http.MethodPost, "/_emulator/runners/"+url.PathEscape(uuid)+"/"+action, map[string]string{"step": stepUUID}, nil)
}

func (c *Control) do(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("emulator %s: %w", path, err)
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return fmt.Errorf("emulator %s: %w", path, err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("emulator %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("emulator %s: %s: %s", path, resp.Status, text)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("emulator %s: %w", path, err)
	}
	return nil
}
