package bitbucket

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

const (
	pageLength = 100
	// maxPages bounds a list. A scope has at most 100 runners. That is one page, or ten
	// if the server ignores the page length.
	maxPages = 20
)

// ListRunners returns all runners of a scope. If the list is incomplete or unreadable, it
// returns an error and never a shorter list.
func (c *Client) ListRunners(ctx context.Context, scope Scope) (RunnerList, error) {
	return c.list(ctx, scope, publicRoot)
}

// ListRunnersInternally is ListRunners by the older route of Atlassian's own autoscaler,
// whose list is known to show the steps of busy runners. Whether the list of the public
// route does is not documented.
func (c *Client) ListRunnersInternally(ctx context.Context, scope Scope) (RunnerList, error) {
	return c.list(ctx, scope, internalRoot)
}

func (c *Client) list(ctx context.Context, scope Scope, root string) (RunnerList, error) {
	if err := scope.Validate(); err != nil {
		return RunnerList{}, fmt.Errorf("list runners: %w", err)
	}
	list, err := c.listRunners(ctx, scope, root)
	if err != nil {
		return RunnerList{}, fmt.Errorf("list runners of %s: %w", scope, err)
	}
	return list, nil
}

func (c *Client) listRunners(ctx context.Context, scope Scope, root string) (RunnerList, error) {
	cl := call{method: http.MethodGet, class: ClassList, query: url.Values{"pagelen": {strconv.Itoa(pageLength)}}}
	cl.route, cl.path = scope.runnersRoute(root)
	list := RunnerList{Internal: root == internalRoot, Begun: c.cfg.Clock.Now()}
	seen := map[string]bool{}
	for number := 1; number <= maxPages; number++ {
		r, err := c.do(ctx, cl)
		if err != nil {
			return RunnerList{}, err
		}
		page, err := decodeRunnerPage(r.body)
		if err != nil {
			return RunnerList{}, fmt.Errorf("page %d: %w: %w", number, ErrUnavailable, err)
		}
		if number == 1 {
			list.ServerDate = serverDate(r.header)
		}
		// A runner that is created while pages are read shifts others to the next page,
		// where they appear again.
		fresh := 0
		for _, runner := range page.runners {
			if !seen[runner.UUID] {
				seen[runner.UUID] = true
				fresh++
				list.Runners = append(list.Runners, runner)
			}
		}
		switch {
		case page.next != "":
			if cl.query, err = c.nextQuery(page.next); err != nil {
				return RunnerList{}, fmt.Errorf("page %d: %w", number, err)
			}
		case page.size > len(list.Runners) && fresh > 0:
			// Some of Bitbucket's lists have no next link, but a size.
			cl.query = url.Values{"pagelen": {strconv.Itoa(pageLength)}, "page": {strconv.Itoa(number + 1)}}
		default:
			return list, nil
		}
	}
	return RunnerList{}, fmt.Errorf("%w: the list has no end after %d pages", ErrUnavailable, maxPages)
}

// nextQuery returns the query of a next link to the same host. The path does not change,
// so a link can only lead to another page of the list.
func (c *Client) nextQuery(next string) (url.Values, error) {
	u, err := c.api.Parse(next)
	if err != nil {
		return nil, fmt.Errorf("%w: next page: not a URL", ErrUnavailable)
	}
	if !sameHost(u, c.api) {
		return nil, fmt.Errorf("%w: next page %s %w", ErrUnavailable, u.Redacted(), errForeignHost)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: next page: unreadable query", ErrUnavailable)
	}
	return query, nil
}
