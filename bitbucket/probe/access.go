package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"bitbucket-runner-scaler/bitbucket"
)

// access is one check of credentials.
type access struct {
	client  *bitbucket.Client
	account Account
	// shown is what the calls have shown about each purpose.
	shown map[purpose]Has
}

// errUnclear ends a check that can find out nothing more.
var errUnclear = errors.New("could not be determined")

// Access finds out the account of the credentials, which scopes they have and lack, and
// what works in the given scopes. It changes nothing. To find out whether the credentials
// may write, it deletes a runner with a made-up UUID.
func Access(ctx context.Context, client *bitbucket.Client, credentials bitbucket.Credentials, scopes []bitbucket.Scope) Account {
	a := &access{client: client, shown: map[purpose]Has{}, account: Account{
		Kind: credentials.Kind(), Deprecated: credentials.Deprecated(), Who: given(credentials), Works: []Work{},
	}}
	before := client.Budget().Used()
	err := a.look(ctx, scopes)
	a.account.Hourly.Calls = client.Budget().Used() - before
	switch {
	case errors.Is(err, errUnclear):
		a.account.Unclear = strings.TrimPrefix(err.Error(), errUnclear.Error()+": ")
	case err != nil:
		a.account.Faults = append(a.account.Faults, err.Error())
	}
	a.judge()
	return a.account
}

// given returns the identity that the credentials themselves contain.
func given(c bitbucket.Credentials) string {
	switch c.Kind() {
	case bitbucket.KindOAuthConsumer:
		return "consumer " + c.OAuthClientID
	case bitbucket.KindAPIToken:
		return c.AccountEmail
	case bitbucket.KindAppPassword:
		return c.Username
	}
	return "the token's own account"
}

func (a *access) look(ctx context.Context, scopes []bitbucket.Scope) error {
	err := a.whoami(ctx)
	// A valid token can have no access to an account. Then the calls in the scopes show
	// whether it works.
	if err != nil && (!errors.Is(err, bitbucket.ErrUnauthorized) || a.account.Kind == bitbucket.KindOAuthConsumer || len(scopes) == 0) {
		return err
	}
	for _, scope := range scopes {
		if err := a.try(ctx, scope); err != nil {
			return err
		}
	}
	return nil
}

// whoami reads the account, and takes the scopes from the answer and the token.
func (a *access) whoami(ctx context.Context) error {
	granted, err := a.client.GrantedScopes(ctx)
	switch {
	case errors.Is(err, bitbucket.ErrUnauthorized):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errUnclear, err)
	}
	a.name(granted)
	answer, err := a.exchange(ctx, bitbucket.Request{Method: http.MethodGet, Route: "/2.0/user", Path: "/2.0/user"})
	if err != nil {
		return err
	}
	var user struct {
		DisplayName string `json:"display_name"`
		Nickname    string `json:"nickname"`
		AccountID   string `json:"account_id"`
		UUID        string `json:"uuid"`
	}
	if answer.OK() && json.Unmarshal(answer.Body, &user) == nil {
		for _, part := range []string{user.DisplayName, user.AccountID} {
			if part != "" {
				a.account.Who += ", " + part
			}
		}
	}
	if kind := answer.Header.Get("X-Credential-Type"); kind != "" {
		a.account.Who += " (" + strings.ReplaceAll(kind, "_", " ") + ")"
	}
	return nil
}

// name records scopes that Bitbucket names.
func (a *access) name(scopes []string) {
	if len(scopes) == 0 {
		return
	}
	a.account.Scopes = append(a.account.Scopes, scopes...)
	slices.Sort(a.account.Scopes)
	a.account.Scopes = slices.Compact(a.account.Scopes)
}

// exchange makes a call and records the headers that every answer has.
func (a *access) exchange(ctx context.Context, request bitbucket.Request) (bitbucket.Answer, error) {
	answer, err := a.client.Exchange(ctx, request)
	switch {
	case errors.Is(err, bitbucket.ErrUnauthorized):
		return answer, err
	case err != nil:
		return answer, fmt.Errorf("%w: %w", errUnclear, err)
	}
	a.name(answer.NamedScopes())
	a.name(answer.Granted)
	if limit, err := strconv.Atoi(answer.Header.Get("X-RateLimit-Limit")); err == nil {
		a.account.Hourly.Limit = limit
	}
	if near, err := strconv.ParseBool(answer.Header.Get("X-RateLimit-NearLimit")); err == nil {
		a.account.Hourly.Near = a.account.Hourly.Near || near
	}
	switch {
	case answer.Status == http.StatusUnauthorized:
		return answer, fmt.Errorf("%w: %s", bitbucket.ErrUnauthorized, said(answer))
	case answer.Status == http.StatusTooManyRequests:
		a.account.Hourly.Exhausted = true
		return answer, fmt.Errorf("%w: the calls of the hour are used up: %s", errUnclear, said(answer))
	case answer.Status >= http.StatusInternalServerError:
		return answer, fmt.Errorf("%w: %s %s: %s", errUnclear, request.Method, request.Route, said(answer))
	}
	return answer, nil
}

// The names of checks to which other code refers.
const (
	whatSlug      = "resolve the slug "
	whatPipelines = "read pipelines"
)

// try makes the scaler's calls in one scope, except those that change something.
func (a *access) try(ctx context.Context, scope bitbucket.Scope) error {
	for _, slug := range slugs(scope) {
		answer, err := a.exchange(ctx, slug.request)
		if err != nil {
			return err
		}
		a.work(scope, whatSlug+slug.slug, slug.purpose, answer, "")
	}
	list := bitbucket.RunnersRequest(http.MethodGet, scope, false)
	list.Query = url.Values{"pagelen": {"100"}}
	answer, err := a.exchange(ctx, list)
	if err != nil {
		return err
	}
	a.work(scope, "list runners", readRunners, answer, countRunners(answer))

	remove, err := bitbucket.RunnerRequest(http.MethodDelete, scope, "{"+uuid.NewString()+"}", false)
	if err != nil {
		return err
	}
	if answer, err = a.exchange(ctx, remove); err != nil {
		return err
	}
	if answer.Status == http.StatusNotFound && a.shown[readRunners] == HasYes {
		answer.Status = http.StatusNoContent // it may delete, and there is no such runner
		a.work(scope, "write runners", writeRunners, answer, "tried on a runner that does not exist")
	} else {
		a.work(scope, "write runners", writeRunners, answer, "")
	}
	if scope.Repository == "" {
		return nil
	}
	path := "/2.0/repositories/" + url.PathEscape(scope.Workspace) + "/" + url.PathEscape(scope.Repository) + "/pipelines"
	answer, err = a.exchange(ctx, bitbucket.Request{
		Method: http.MethodGet, Route: "/2.0/repositories/{workspace}/{repo_slug}/pipelines", Path: path, Query: url.Values{"pagelen": {"1"}},
	})
	if err != nil {
		return err
	}
	a.work(scope, whatPipelines, readPipelines, answer, "")
	return nil
}

// slug is a name that must be resolved to a UUID.
type slug struct {
	slug    string
	purpose purpose
	request bitbucket.Request
}

// slugs returns the names that the scaler would resolve. The answer for a repository
// includes its workspace.
func slugs(scope bitbucket.Scope) []slug {
	var all []slug
	byRepository := scope.Repository != "" && !bitbucket.IsUUID(scope.Repository)
	if !bitbucket.IsUUID(scope.Workspace) && !byRepository {
		all = append(all, slug{scope.Workspace, readWorkspace, bitbucket.Request{
			Method: http.MethodGet, Route: "/2.0/workspaces/{workspace}", Path: "/2.0/workspaces/" + url.PathEscape(scope.Workspace),
		}})
	}
	if byRepository {
		all = append(all, slug{scope.Repository, readRepository, bitbucket.Request{
			Method: http.MethodGet, Route: "/2.0/repositories/{workspace}/{repo_slug}",
			Path: "/2.0/repositories/" + url.PathEscape(scope.Workspace) + "/" + url.PathEscape(scope.Repository),
		}})
	}
	return all
}

// scopeLimit is the maximum number of runners that Bitbucket registers in one scope.
const scopeLimit = 100

func countRunners(answer bitbucket.Answer) string {
	var page struct {
		Values []json.RawMessage `json:"values"`
		Size   int               `json:"size"`
	}
	if !answer.OK() || json.Unmarshal(answer.Body, &page) != nil {
		return ""
	}
	count := max(page.Size, len(page.Values))
	return fmt.Sprintf("%d registered, room for %d", count, max(0, scopeLimit-count))
}

// work records a call that was tried, and what it shows about its purpose.
func (a *access) work(scope bitbucket.Scope, what string, p purpose, answer bitbucket.Answer, good string) {
	work := Work{What: what, Scope: scope.String(), OK: answer.OK(), Said: said(answer)}
	if answer.OK() {
		work.Said = good
		if good == "" {
			work.Said = "ok"
		}
		a.shown[p] = HasYes
	} else if answer.Status == http.StatusForbidden && a.shown[p] == "" {
		a.shown[p] = HasNo
	}
	a.account.Works = append(a.account.Works, work)
}
