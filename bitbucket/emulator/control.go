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

// The actions that set a runner's state by hand.
const (
	// ActionOnline connects the runner without a process. It gets steps and never misses
	// a heartbeat.
	ActionOnline = "online"
	// ActionStep assigns a step to the runner, a queued one or one with any UUID.
	ActionStep = "step"
	// ActionIdle ends the runner's step as planned, which is passed by default.
	ActionIdle = "idle"
	// ActionOffline loses the runner's heartbeat.
	ActionOffline = "offline"
	// ActionGone records that the runner's process has ended although Bitbucket has not
	// noticed it yet. Bitbucket's answers and behaviour do not change, but the runner no
	// longer counts for the peaks of Counters.
	ActionGone = "gone"
	// ActionUnhealthy makes it UNHEALTHY until it is set online.
	ActionUnhealthy = "unhealthy"
	// ActionCordon prevents it from accepting new steps, ActionUncordon allows it again.
	ActionCordon   = "cordon"
	ActionUncordon = "uncordon"
)

// controlTimeout bounds a call of a control.
const controlTimeout = 30 * time.Second

// Control is a client of the emulator's controls. It is safe for concurrent
// use.
type Control struct {
	base   string
	client *http.Client
}

// NewControl returns a client of the emulator at a URL such as http://host:port.
func NewControl(baseURL string) *Control {
	return &Control{
		base: strings.TrimRight(baseURL, "/"),
		// Connections are not kept, so that the user need not close anything.
		client: &http.Client{
			Timeout:   controlTimeout,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		},
	}
}

// QueueSteps queues steps and returns their UUIDs. A step without a matching ONLINE
// runner has already failed when QueueSteps returns.
func (c *Control) QueueSteps(ctx context.Context, request StepRequest) (uuids []string, err error) {
	queued, err := c.QueuePipeline(ctx, request)
	return queued.Steps, err
}

// QueuePipeline is like QueueSteps and also returns the steps' pipeline.
func (c *Control) QueuePipeline(ctx context.Context, request StepRequest) (StepsQueued, error) {
	var queued StepsQueued
	if err := c.call(ctx, http.MethodPost, "/steps", request, &queued); err != nil {
		return StepsQueued{}, fmt.Errorf("queue steps: %w", err)
	}
	return queued, nil
}

// State returns the emulator's complete state.
func (c *Control) State(ctx context.Context) (State, error) {
	var state State
	if err := c.call(ctx, http.MethodGet, "/state", nil, &state); err != nil {
		return State{}, fmt.Errorf("read emulator state: %w", err)
	}
	return state, nil
}

// SetFaults replaces all fault rules. Without rules it ends the faults, also those of
// deliveries.
func (c *Control) SetFaults(ctx context.Context, rules []FaultRule, deliveries ...DeliveryFault) error {
	if err := c.call(ctx, http.MethodPost, "/faults", FaultRules{Rules: rules, Deliveries: deliveries}, nil); err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	return nil
}

// StopPipeline cancels the open steps of a pipeline, including those that run.
func (c *Control) StopPipeline(ctx context.Context, uuid string) error {
	if err := c.call(ctx, http.MethodPost, "/pipelines/"+url.PathEscape(uuid)+"/stop", nil, nil); err != nil {
		return fmt.Errorf("stop pipeline %s: %w", uuid, err)
	}
	return nil
}

// Rerun starts a new run of a completed pipeline.
func (c *Control) Rerun(ctx context.Context, uuid string, request RerunRequest) error {
	if err := c.call(ctx, http.MethodPost, "/pipelines/"+url.PathEscape(uuid)+"/rerun", request, nil); err != nil {
		return fmt.Errorf("rerun pipeline %s: %w", uuid, err)
	}
	return nil
}

// StartStep starts a paused step, or the stage that it begins, as a user does.
func (c *Control) StartStep(ctx context.Context, uuid string) error {
	if err := c.call(ctx, http.MethodPost, "/steps/"+url.PathEscape(uuid)+"/start", nil, nil); err != nil {
		return fmt.Errorf("start step %s: %w", uuid, err)
	}
	return nil
}

// Plan replaces the plan of how steps go. The zero StepPlan ends it.
func (c *Control) Plan(ctx context.Context, steps StepPlan) error {
	if err := c.call(ctx, http.MethodPost, "/plan", steps, nil); err != nil {
		return fmt.Errorf("plan steps: %w", err)
	}
	return nil
}

// Push pushes a commit with a bitbucket-pipelines.yml, which starts its pipelines.
func (c *Control) Push(ctx context.Context, request PushRequest) (Pushed, error) {
	var pushed Pushed
	if err := c.call(ctx, http.MethodPost, "/push", request, &pushed); err != nil {
		return Pushed{}, fmt.Errorf("push: %w", err)
	}
	return pushed, nil
}

// AddWebhook registers a webhook.
func (c *Control) AddWebhook(ctx context.Context, request WebhookRequest) error {
	if err := c.call(ctx, http.MethodPost, "/webhooks", request, nil); err != nil {
		return fmt.Errorf("add webhook: %w", err)
	}
	return nil
}

// SetRunner applies one of the actions to a runner. Only ActionStep uses stepUUID. If it
// is empty, the emulator makes up a step.
func (c *Control) SetRunner(ctx context.Context, uuid, action, stepUUID string) error {
	var body any
	if action == ActionStep {
		body = map[string]string{"step": stepUUID}
	}
	if err := c.call(ctx, http.MethodPost, "/runners/"+url.PathEscape(uuid)+"/"+url.PathEscape(action), body, nil); err != nil {
		return fmt.Errorf("set runner %s %s: %w", uuid, action, err)
	}
	return nil
}

// ChangeWorkspace deletes or renames a workspace. Only ActionRename uses slug.
func (c *Control) ChangeWorkspace(ctx context.Context, workspace, action, slug string) error {
	return c.changeScope(ctx, "/workspaces/"+url.PathEscape(workspace), action, slug)
}

// ChangeRepository is like ChangeWorkspace for a repository.
func (c *Control) ChangeRepository(ctx context.Context, workspace, repository, action, slug string) error {
	return c.changeScope(ctx, "/repositories/"+url.PathEscape(workspace)+"/"+url.PathEscape(repository), action, slug)
}

func (c *Control) changeScope(ctx context.Context, path, action, slug string) error {
	var body any
	if action == ActionRename {
		body = map[string]string{"slug": slug}
	}
	if err := c.call(ctx, http.MethodPost, path+"/"+url.PathEscape(action), body, nil); err != nil {
		return fmt.Errorf("%s %s: %w", action, path, err)
	}
	return nil
}

func (c *Control) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/_emulator"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: status %d: %s", method, path, resp.StatusCode, bytes.TrimSpace(data))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: decode: %w", method, path, err)
	}
	return nil
}
