package bitbucket

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// identified contains the fields that workspaces and repositories have in common. A
// repository usually includes its workspace.
type identified struct {
	UUID      string      `json:"uuid"`
	Workspace *identified `json:"workspace"`
}

// ResolveScope replaces slugs with UUIDs, so that a scope has one spelling and the
// runner's container gets the UUIDs that it needs. If only UUIDs are given, it makes no
// call and needs no permission.
func (c *Client) ResolveScope(ctx context.Context, scope Scope) (Scope, error) {
	if err := scope.Validate(); err != nil {
		return Scope{}, fmt.Errorf("resolve scope: %w", err)
	}
	resolved := Scope{Workspace: lowerUUID(scope.Workspace), Repository: lowerUUID(scope.Repository)}
	if scope.Repository != "" && !IsUUID(scope.Repository) {
		found, err := c.identify(ctx, scope)
		if err != nil {
			return Scope{}, fmt.Errorf("resolve repository %s: %w", scope, err)
		}
		resolved.Repository = lowerUUID(found.UUID)
		if !IsUUID(resolved.Workspace) && found.Workspace != nil && IsUUID(found.Workspace.UUID) {
			resolved.Workspace = lowerUUID(found.Workspace.UUID)
		}
	}
	if !IsUUID(resolved.Workspace) {
		found, err := c.identify(ctx, Scope{Workspace: scope.Workspace})
		if err != nil {
			return Scope{}, fmt.Errorf("resolve workspace %s: %w", scope.Workspace, err)
		}
		resolved.Workspace = lowerUUID(found.UUID)
	}
	return resolved, nil
}

// CheckScope reads the workspace or repository itself. It returns nil if Bitbucket knows
// it, and ErrNotFound if it does not, or not for these credentials.
func (c *Client) CheckScope(ctx context.Context, scope Scope) error {
	if err := scope.Validate(); err != nil {
		return fmt.Errorf("check scope: %w", err)
	}
	if _, err := c.identify(ctx, scope); err != nil {
		return fmt.Errorf("check scope %s: %w", scope, err)
	}
	return nil
}

func (c *Client) identify(ctx context.Context, scope Scope) (identified, error) {
	cl := call{method: http.MethodGet, class: ClassList}
	template, path := scope.Route()
	cl.route, cl.path = publicRoot+template, publicRoot+path
	r, err := c.do(ctx, cl)
	if err != nil {
		return identified{}, err
	}
	var found identified
	if err := json.Unmarshal(r.body, &found); err != nil {
		return identified{}, fmt.Errorf("%w: decode the answer: %w", ErrUnavailable, err)
	}
	if !IsUUID(found.UUID) {
		return identified{}, fmt.Errorf("%w: the answer has no uuid", ErrUnavailable)
	}
	return found, nil
}
