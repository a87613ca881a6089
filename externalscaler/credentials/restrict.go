package credentials

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// Files of a set's folder, beside its keys, that say what it serves: words, parted by
// spaces or lines.
const (
	// namespacesFile lists the namespaces a set serves; `*` is all, no file none.
	namespacesFile = "namespaces"
	// workspacesFile lists workspaces, by slug or {uuid}; no file is any. Repositories
	// of them are served by their slug, or by a {uuid} that repositoriesFile lists.
	workspacesFile = "workspaces"
	// repositoriesFile lists repositories, by slug or {uuid}, or as workspace/slug; with
	// it runners of a whole workspace are not served.
	repositoriesFile = "repositories"
	// labelsFile lists the custom labels that runners may have; one that ends in `*`
	// stands for all that begin so.
	labelsFile = "labels"
)

// all stands for everything in any of the files.
const all = "*"

// servesFiles are the files that say what a set serves.
func servesFiles() []string {
	return []string{namespacesFile, workspacesFile, repositoriesFile, labelsFile}
}

// Serves is what a set may be used for.
type Serves struct {
	// Namespaces are those that may use it; without any none may.
	Namespaces []string `json:"namespaces"`
	// Workspaces, Repositories and Labels restrict it; nil does not.
	Workspaces   []string `json:"workspaces,omitempty"`
	Repositories []string `json:"repositories,omitempty"`
	Labels       []string `json:"labels,omitempty"`
}

// Use is what a runner group would use a set for.
type Use struct {
	Namespace string
	// Scope is as the group's metadata writes it.
	Scope bitbucket.Scope
	// Labels are the custom ones.
	Labels []string
}

// Scopes are those that the files name: each workspace, or, where repositories are
// listed, each of them.
func (s Serves) Scopes() (scopes []bitbucket.Scope) {
	workspaces := slices.DeleteFunc(slices.Clone(s.Workspaces), func(word string) bool { return word == all })
	for _, word := range s.Repositories {
		if workspace, repository, both := strings.Cut(word, "/"); both {
			scopes = append(scopes, bitbucket.Scope{Workspace: workspace, Repository: repository})
		} else if len(workspaces) == 1 && word != all {
			scopes = append(scopes, bitbucket.Scope{Workspace: workspaces[0], Repository: word})
		}
	}
	if s.Repositories == nil {
		for _, workspace := range workspaces {
			scopes = append(scopes, bitbucket.Scope{Workspace: workspace})
		}
	}
	return slices.DeleteFunc(scopes, func(scope bitbucket.Scope) bool { return scope.Validate() != nil })
}

// readServes reads what a set's folder says that it serves. A file that is there and
// empty allows nothing.
func readServes(dir string) (Serves, error) {
	var s Serves
	var faults []error
	for name, into := range map[string]*[]string{
		namespacesFile: &s.Namespaces, workspacesFile: &s.Workspaces, repositoriesFile: &s.Repositories, labelsFile: &s.Labels,
	} {
		text, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // a path below the operator's own directory
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			faults = append(faults, fmt.Errorf("read %s: %w", name, err))
		default:
			*into = append([]string{}, strings.Fields(string(text))...) // never nil: the file is there
		}
	}
	return s, errors.Join(faults...)
}

// servesNamespace reports whether the set is open to a namespace.
func (s Serves) servesNamespace(namespace string) bool {
	return slices.Contains(s.Namespaces, namespace) || slices.Contains(s.Namespaces, all)
}

// allow says what stands against a use beyond its namespace; empty if nothing. What
// a group writes is compared with what the file says, so that it needs no call:
// where the one has a slug and the other a UUID, the file must have both.
func (s Serves) allow(use Use) (against string) {
	if s.Workspaces != nil && !slices.ContainsFunc(s.Workspaces, func(allowed string) bool {
		return allowed == all || strings.EqualFold(allowed, use.Scope.Workspace)
	}) {
		return fmt.Sprintf("workspaces %q, not %q", s.Workspaces, use.Scope.Workspace)
	}
	// By its UUID alone Bitbucket finds a repository, whatever workspace stands before it.
	if s.Workspaces != nil && !slices.Contains(s.Workspaces, all) && bitbucket.IsUUID(use.Scope.Repository) && s.Repositories == nil {
		return fmt.Sprintf("workspaces %q, and there for repositories by their slug: %q could be of any (or list it in the file %s)", s.Workspaces, use.Scope.Repository, repositoriesFile)
	}
	if s.Repositories != nil && !slices.ContainsFunc(s.Repositories, func(allowed string) bool {
		return allowed == all || use.Scope.Repository != "" && (strings.EqualFold(allowed, use.Scope.Repository) || strings.EqualFold(allowed, use.Scope.String()))
	}) {
		if use.Scope.Repository == "" {
			return fmt.Sprintf("repositories %q, not a whole workspace", s.Repositories)
		}
		return fmt.Sprintf("repositories %q, not %q", s.Repositories, use.Scope.Repository)
	}
	if s.Labels == nil {
		return ""
	}
	for _, label := range use.Labels {
		if !slices.ContainsFunc(s.Labels, func(allowed string) bool {
			prefix, open := strings.CutSuffix(allowed, all)
			return allowed == label || open && strings.HasPrefix(label, prefix)
		}) {
			return fmt.Sprintf("labels %q, not %q", s.Labels, label)
		}
	}
	return ""
}

// Allows reports whether runners of a scope are served, whatever their labels.
func (s Serves) Allows(scope bitbucket.Scope) bool { return s.allow(Use{Scope: scope}) == "" }

var (
	// namespaceName is a DNS label, which a namespace's name must be.
	namespaceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	labelName     = regexp.MustCompile(`^[a-z0-9.]{1,50}$`)
)

// faults are the words that can never match.
func (s Serves) faults() (faults []string) {
	check := func(file string, words []string, good func(string) bool, accepted string) {
		if words != nil && len(words) == 0 {
			faults = append(faults, fmt.Sprintf("%s: empty, which allows nothing: want %s", file, accepted))
		}
		for _, word := range words {
			if word != all && !good(word) {
				faults = append(faults, fmt.Sprintf("%s: %q, want %s", file, word, accepted))
			}
		}
	}
	isScope := func(workspace, repository string) bool {
		return bitbucket.Scope{Workspace: workspace, Repository: repository}.Validate() == nil
	}
	if len(s.Namespaces) == 0 {
		faults = append(faults, namespacesFile+": missing or empty, so no namespace may use the set: want names, or * for all")
	}
	if len(s.Namespaces) > 0 {
		check(namespacesFile, s.Namespaces, namespaceName.MatchString, "names of namespaces, or * for all")
	}
	check(workspacesFile, s.Workspaces, func(word string) bool { return isScope(word, "") }, "slugs or UUIDs in braces")
	check(repositoriesFile, s.Repositories, func(word string) bool {
		workspace, repository, both := strings.Cut(word, "/")
		if !both {
			workspace, repository = "any", word
		}
		return repository != "" && isScope(workspace, repository)
	}, "slugs, UUIDs in braces, or workspace/slug")
	check(labelsFile, s.Labels, func(word string) bool { return labelName.MatchString(strings.TrimSuffix(word, all)) },
		"custom labels, of lower-case letters, digits and dots, or the beginning of some and *")
	return faults
}
