package emulator

import (
	"fmt"
	"net/http"
	"strings"
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
	history []snapshot
}

func newWorkspace(given Workspace) *workspace {
	w := &workspace{Workspace: given}
	w.scope = &scope{name: w.Slug, kind: "workspace", workspace: w}
	for _, g := range given.Repositories {
		r := &repository{Repository: g, workspace: w}
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

type workspaceBody struct {
	Type string `json:"type"`
	UUID string `json:"uuid"`
	Slug string `json:"slug"`
	Name string `json:"name"`
}

type repositoryBody struct {
	Type      string         `json:"type"`
	UUID      string         `json:"uuid"`
	Slug      string         `json:"slug,omitempty"`
	Name      string         `json:"name"`
	FullName  string         `json:"full_name"`
	Workspace *workspaceBody `json:"workspace,omitempty"`
}

func (w *workspace) body() workspaceBody {
	return workspaceBody{Type: "workspace", UUID: w.UUID, Slug: w.Slug, Name: w.Slug}
}

func (s *Server) getWorkspace(c *call) answer {
	w, ok := s.findWorkspace(c.PathValue("workspace"))
	if !ok {
		return noWorkspace(c)
	}
	return jsonAnswer(http.StatusOK, w.body())
}

func (s *Server) getRepository(c *call) answer {
	r, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	owner := r.workspace.body()
	return jsonAnswer(http.StatusOK, repositoryBody{
		Type: "repository", UUID: r.UUID, Slug: r.Slug, Name: r.Slug, FullName: r.scope.name, Workspace: &owner,
	})
}
