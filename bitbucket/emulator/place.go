package emulator

import (
	"fmt"
	"net/http"
	"slices"
)

// The actions on a workspace or a repository.
const (
	// ActionDelete deletes it with its runners.
	ActionDelete = "delete"
	// ActionRename gives it another slug. Its UUID stays, and the old slug is not found any
	// more.
	ActionRename = "rename"
)

// changeScope deletes or renames a workspace or a repository, as a user does.
func (s *Server) changeScope(c *call) answer {
	sc, refusal, ok := s.scopeOf(c)
	if !ok {
		return refusal
	}
	switch c.PathValue("action") {
	case ActionDelete:
		s.deleteScope(c, sc)
	case ActionRename:
		var given struct {
			Slug string `json:"slug"`
		}
		if refusal, ok := decodeStrict(c.body, &given); !ok {
			return refusal
		}
		if !slugPattern.MatchString(given.Slug) {
			return failure(http.StatusBadRequest, fmt.Sprintf("slug: %q, want lower-case letters, digits, dots, dashes and underscores", given.Slug))
		}
		sc.rename(given.Slug)
	default:
		return failure(http.StatusNotFound, fmt.Sprintf("Action %q: want delete or rename", c.PathValue("action")))
	}
	return noContent()
}

func (s *Server) deleteScope(c *call, gone *scope) {
	deleted := []*scope{gone}
	if w := gone.workspace; gone.repository == nil {
		deleted = w.scopes()
		s.workspaces = slices.DeleteFunc(s.workspaces, func(other *workspace) bool { return other == w })
	} else {
		w.repositories = slices.DeleteFunc(w.repositories, func(other *repository) bool { return other == gone.repository })
	}
	for _, sc := range deleted {
		for _, r := range slices.Clone(sc.runners) {
			s.remove(r, c.now)
		}
	}
	s.dispatch(c.now)
}

// rename changes the slug, and the names that contain it.
func (sc *scope) rename(slug string) {
	w := sc.workspace
	if sc.repository != nil {
		sc.repository.Slug = slug
	} else {
		w.Slug, sc.name = slug, slug
	}
	for _, r := range w.repositories {
		r.scope.name = w.Slug + "/" + r.Slug
	}
}
