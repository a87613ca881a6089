package bitbucket

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

var (
	uuidPattern = regexp.MustCompile(`^\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}$`)
	slugPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	idPattern   = regexp.MustCompile(`^\{?[0-9A-Za-z-]{1,64}\}?$`)
)

// Scope is where runners are registered: a workspace or one of its repositories.
type Scope struct {
	// Workspace is the workspace's slug or its UUID in braces.
	Workspace string
	// Repository is the repository's slug or its UUID in braces. Empty means
	// the whole workspace.
	Repository string
}

// String returns "acme" for a workspace and "acme/app" for a repository.
func (s Scope) String() string {
	if s.Repository == "" {
		return s.Workspace
	}
	return s.Workspace + "/" + s.Repository
}

// Validate returns an error unless both parts are slugs or UUIDs in braces. Anything else
// could change the path of a request.
func (s Scope) Validate() error {
	if !isName(s.Workspace) {
		return fmt.Errorf("workspace %q: want a slug or a UUID in braces", s.Workspace)
	}
	if s.Repository != "" && !isName(s.Repository) {
		return fmt.Errorf("repository %q: want a slug or a UUID in braces", s.Repository)
	}
	return nil
}

// IsUUID reports whether a workspace or repository is given as its UUID in braces, and so
// need not be resolved.
func IsUUID(s string) bool { return uuidPattern.MatchString(s) }

func isName(s string) bool {
	return IsUUID(s) || slugPattern.MatchString(s) && s != "." && s != ".."
}

// Route returns the template and the escaped path of the scope's own resource. Braces are
// escaped as %7B and %7D.
func (s Scope) Route() (template, path string) {
	if s.Repository == "" {
		return "/workspaces/{workspace}", "/workspaces/" + url.PathEscape(s.Workspace)
	}
	return "/repositories/{workspace}/{repo_slug}",
		"/repositories/" + url.PathEscape(s.Workspace) + "/" + url.PathEscape(s.Repository)
}

// runnersRoute returns the template and path of the scope's list of runners
// under an API root ("/2.0" or "/internal").
func (s Scope) runnersRoute(root string) (template, path string) {
	template, path = s.Route()
	return root + template + "/pipelines-config/runners", root + path + "/pipelines-config/runners"
}

// runnerRoute returns the template and path of one runner.
func (s Scope) runnerRoute(root, uuid string) (template, path string) {
	template, path = s.runnersRoute(root)
	return template + "/{runner_uuid}", path + "/" + url.PathEscape(uuid)
}

// checkRunner refuses an identifier that does not address one runner. With an empty one,
// a DELETE would address the whole list.
func checkRunner(scope Scope, uuid string) error {
	if err := scope.Validate(); err != nil {
		return err
	}
	if !idPattern.MatchString(uuid) {
		return fmt.Errorf("runner %q of %s: want a UUID in braces", uuid, scope)
	}
	return nil
}

// lowerUUID returns a UUID in Bitbucket's spelling, so that a scope has one spelling.
func lowerUUID(s string) string {
	if IsUUID(s) {
		return strings.ToLower(s)
	}
	return s
}
