package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// refusalMemory is how long a refusal to disable is believed without asking
// again, so that one odd 404 does not end scale-down for good.
const refusalMemory = time.Hour

// DisableRunner makes a runner take no new step; it finishes the one it has.
// ErrNotFound when the runner is gone, ErrDisableUnsupported when Bitbucket has
// no such route for this kind of scope.
func (c *Client) DisableRunner(ctx context.Context, scope Scope, uuid string) error {
	if err := c.setStatus(ctx, scope, uuid, StatusDisabled); err != nil {
		return fmt.Errorf("disable runner %s of %s: %w", uuid, scope, err)
	}
	return nil
}

// EnableRunner undoes DisableRunner, with the same errors.
func (c *Client) EnableRunner(ctx context.Context, scope Scope, uuid string) error {
	if err := c.setStatus(ctx, scope, uuid, StatusEnabled); err != nil {
		return fmt.Errorf("enable runner %s of %s: %w", uuid, scope, err)
	}
	return nil
}

// DisableSupported is false while any kind of scope is known to refuse it.
func (c *Client) DisableSupported() bool {
	for kind := range scopeKinds {
		if c.refused(kind) {
			return false
		}
	}
	return true
}

// DisableSupportedIn is false while this kind of scope is known to refuse it.
func (c *Client) DisableSupportedIn(scope Scope) bool { return !c.refused(scope.kind()) }

// setStatus uses the internal route of Atlassian's own autoscaler; whether the
// public API can change a runner's status is not documented.
func (c *Client) setStatus(ctx context.Context, scope Scope, uuid string, status Status) error {
	if err := checkRunner(scope, uuid); err != nil {
		return err
	}
	if c.refused(scope.kind()) {
		return ErrDisableUnsupported
	}
	cl := call{method: http.MethodPut, class: ClassRegistration, body: map[string]Status{"status": status}}
	cl.route, cl.path = scope.runnerRoute(internalRoot, uuid)
	cl.route, cl.path = cl.route+"/state", cl.path+"/state"
	_, err := c.do(ctx, cl)
	var answer *APIError
	if err == nil || !errors.As(err, &answer) {
		if err == nil {
			c.remember(scope.kind(), time.Time{})
		}
		return err
	}
	switch answer.Status {
	case http.StatusMethodNotAllowed:
	case http.StatusNotFound:
		// No such route, or no such runner: the runner itself tells.
		if _, _, getErr := c.GetRunner(ctx, scope, uuid); getErr != nil {
			return getErr
		}
	default:
		return err
	}
	c.remember(scope.kind(), c.cfg.Clock.Now())
	return fmt.Errorf("%w: %w", ErrDisableUnsupported, &refusal{answer})
}

// refusal keeps a 404 of the route from reading as ErrNotFound of the runner.
type refusal struct{ answer *APIError }

func (r *refusal) Error() string { return r.answer.Error() }

func (c *Client) refused(kind scopeKind) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.refusedAt[kind]
	return !at.IsZero() && c.cfg.Clock.Since(at) < refusalMemory
}

func (c *Client) remember(kind scopeKind, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusedAt[kind] = at
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
