package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// refusalMemory is how long a refusal to disable is remembered. It expires so that a
// single wrong 404 does not stop scale-down for ever.
const refusalMemory = time.Hour

// DisableRunner disables a runner: it finishes its step and takes no new one. It returns
// ErrNotFound if the runner does not exist, and ErrDisableUnsupported if Bitbucket has no
// route to disable runners of this scope.
func (c *Client) DisableRunner(ctx context.Context, scope Scope, uuid string) error {
	if err := c.setStatus(ctx, scope, uuid, StatusDisabled); err != nil {
		return fmt.Errorf("disable runner %s of %s: %w", uuid, scope, err)
	}
	return nil
}

// EnableRunner reverts DisableRunner. It returns the same errors.
func (c *Client) EnableRunner(ctx context.Context, scope Scope, uuid string) error {
	if err := c.setStatus(ctx, scope, uuid, StatusEnabled); err != nil {
		return fmt.Errorf("enable runner %s of %s: %w", uuid, scope, err)
	}
	return nil
}

// DisableSupportedIn returns false while this scope is known to refuse disabling.
func (c *Client) DisableSupportedIn(scope Scope) bool { return !c.refused(scope) }

// setStatus uses the internal route of Atlassian's own autoscaler; whether the
// public API can change a runner's status is not documented.
func (c *Client) setStatus(ctx context.Context, scope Scope, uuid string, status Status) error {
	if err := checkRunner(scope, uuid); err != nil {
		return err
	}
	if c.refused(scope) {
		return ErrDisableUnsupported
	}
	cl := call{method: http.MethodPut, class: ClassRegistration, body: map[string]Status{"status": status}}
	cl.route, cl.path = scope.runnerRoute(internalRoot, uuid)
	cl.route, cl.path = cl.route+"/state", cl.path+"/state"
	_, err := c.do(ctx, cl)
	var answer *APIError
	if err == nil || !errors.As(err, &answer) {
		if err == nil {
			c.remember(scope, time.Time{})
		}
		return err
	}
	switch answer.Status {
	case http.StatusMethodNotAllowed:
	case http.StatusNotFound:
		// Either the route or the runner does not exist. Reading the runner decides.
		if _, _, getErr := c.GetRunner(ctx, scope, uuid); getErr != nil {
			return getErr
		}
	default:
		return err
	}
	c.remember(scope, c.cfg.Clock.Now())
	return fmt.Errorf("%w: %w", ErrDisableUnsupported, &refusal{answer})
}

// refusal prevents a 404 of the route from matching ErrNotFound.
type refusal struct{ answer *APIError }

func (r *refusal) Error() string { return r.answer.Error() }

func (c *Client) refused(scope Scope) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, known := c.refusedAt[scope]
	return known && c.cfg.Clock.Since(at) < refusalMemory
}

// remember notes when a scope refused to disable; zero is that it does not refuse.
func (c *Client) remember(scope Scope, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.refusedAt, func(_ Scope, at time.Time) bool { return c.cfg.Clock.Since(at) >= refusalMemory })
	delete(c.refusedAt, scope)
	if !at.IsZero() {
		c.refusedAt[scope] = at
	}
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
