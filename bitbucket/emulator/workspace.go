package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/history"
	"bitbucket-runner-scaler/bitbucket/emulator/paging"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/source"
)

// workspace is a workspace with its repositories.
type workspace struct {
	Workspace
	scope        *scope
	repositories []*repository
}

type repository struct {
	Repository
	workspace *workspace
	scope     *scope
	source    *source.Source
	builds    int // the last build number
	updatedOn time.Time
}

// scope contains the runners registered in a workspace or in one repository.
type scope struct {
	// name is "workspace" or "workspace/repository". kind is its name in error texts.
	name, kind string
	workspace  *workspace
	repository *repository // nil for a workspace
	runners    []*runner   // oldest first
	// coming counts the registrations that were answered but not applied yet.
	coming  int
	history history.History[runner]
}

func newWorkspace(given Workspace, now time.Time) *workspace {
	w := &workspace{Workspace: given}
	w.scope = &scope{name: w.Slug, kind: "workspace", workspace: w}
	for _, g := range given.Repositories {
		r := &repository{Repository: g, workspace: w, source: source.New(), updatedOn: now}
		r.scope = &scope{name: w.Slug + "/" + r.Slug, kind: "repository", workspace: w, repository: r}
		w.repositories = append(w.repositories, r)
	}
	return w
}

func named(given, slug, uuid string) bool {
	return strings.EqualFold(given, slug) || strings.EqualFold(given, uuid)
}

// findWorkspace returns a workspace by its slug or its UUID in braces.
func (s *Server) findWorkspace(given string) (*workspace, bool) {
	for _, w := range s.workspaces {
		if named(given, w.Slug, w.UUID) {
			return w, true
		}
	}
	return nil, false
}

func (s *Server) findRepository(workspace, given string) (*repository, bool) {
	w, ok := s.findWorkspace(workspace)
	if !ok {
		return nil, false
	}
	for _, r := range w.repositories {
		if named(given, r.Slug, r.UUID) {
			return r, true
		}
	}
	return nil, false
}

// scopeOf returns the scope in the call's path.
func (s *Server) scopeOf(c *call) (found *scope, refusal answer, ok bool) {
	if c.PathValue("repo_slug") != "" {
		r, refusal, ok := s.repositoryOf(c)
		if !ok {
			return nil, refusal, false
		}
		return r.scope, answer{}, true
	}
	w, ok := s.findWorkspace(c.PathValue("workspace"))
	if !ok {
		return nil, noWorkspace(c), false
	}
	return w.scope, answer{}, true
}

func (s *Server) repositoryOf(c *call) (found *repository, refusal answer, ok bool) {
	r, ok := s.findRepository(c.PathValue("workspace"), c.PathValue("repo_slug"))
	if !ok {
		return nil, failure(http.StatusNotFound, fmt.Sprintf("Repository %s/%s not found", c.PathValue("workspace"), c.PathValue("repo_slug"))), false
	}
	return r, answer{}, true
}

func noWorkspace(c *call) answer {
	return failure(http.StatusNotFound, fmt.Sprintf("No workspace with identifier '%s'.", c.PathValue("workspace")))
}

// NextBuild returns the next build number.
func (r *repository) NextBuild() int {
	r.builds++
	return r.builds
}

// Names returns the repository's names, which may change.
func (r *repository) Names() resource.Names {
	return resource.Names{WorkspaceUUID: r.workspace.UUID, Workspace: r.workspace.Slug, UUID: r.UUID, Slug: r.Slug}
}

func (s *Server) getWorkspace(c *call) answer {
	w, ok := s.findWorkspace(c.PathValue("workspace"))
	if !ok {
		return noWorkspace(c)
	}
	body := c.site().Workspace(w.Slug, w.UUID)
	body.IsPrivate, body.CreatedOn = true, resource.At(s.begun)
	return jsonAnswer(http.StatusOK, body)
}

func (s *Server) getRepository(c *call) answer {
	r, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	return jsonAnswer(http.StatusOK, c.site().FullRepository(r.Names(), s.begun, r.updatedOn))
}

// listRepositories lists a workspace's repositories. With sort=-updated_on, those in which
// something happened last come first.
func (s *Server) listRepositories(c *call) answer {
	w, ok := s.findWorkspace(c.PathValue("workspace"))
	if !ok {
		return noWorkspace(c)
	}
	asked, err := paging.Of(c.URL, c.base)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	repositories := slices.Clone(w.repositories)
	if sort, is := strings.CutSuffix(c.URL.Query().Get("sort"), "updated_on"); is {
		slices.SortStableFunc(repositories, func(a, b *repository) int { return a.updatedOn.Compare(b.updatedOn) })
		if sort == "-" {
			slices.Reverse(repositories)
		}
	}
	return jsonAnswer(http.StatusOK, paging.Map(paging.Cut(asked, repositories), func(r *repository) resource.Repository {
		return c.site().FullRepository(r.Names(), s.begun, r.updatedOn)
	}))
}
