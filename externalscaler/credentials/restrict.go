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

// The files of a set's folder that say what the set serves. Each contains words that
// are separated by white space.
const (
	// namespacesFile lists the namespaces that may use the set. `*` means all. Without
	// the file no namespace may use it.
	namespacesFile = "namespaces"
	// workspacesFile lists workspaces, by slug or {uuid}. Without the file every
	// workspace is allowed. Their repositories are allowed by slug, or by a {uuid} that
	// repositoriesFile lists.
	workspacesFile = "workspaces"
	// repositoriesFile lists repositories, by slug, by {uuid} or as workspace/slug. With
	// the file, runners of a whole workspace are not allowed.
	repositoriesFile = "repositories"
	// labelsFile lists the custom labels that runners may have. A word that ends in `*`
	// matches every label with that prefix.
	labelsFile = "labels"
)

// all matches everything, in each of the files.
const all = "*"

// servesFiles returns the names of the files that say what a set serves.
func servesFiles() []string {
	return []string{namespacesFile, workspacesFile, repositoriesFile, labelsFile}
}

// Serves is what a set may be used for.
type Serves struct {
	// Namespaces may use the set. If it is empty, none may.
	Namespaces []string `json:"namespaces"`
	// Workspaces, Repositories and Labels restrict the set's use. nil is no restriction.
	Workspaces   []string `json:"workspaces,omitempty"`
	Repositories []string `json:"repositories,omitempty"`
	Labels       []string `json:"labels,omitempty"`
}

// Use is what a runner group uses a set for.
type Use struct {
	Namespace string
	// Scope is the scope as written in the group's metadata.
	Scope bitbucket.Scope
	// Labels are the custom labels.
	Labels []string
}

// Scopes returns the scopes that the files name: each repository if repositories are
// listed, otherwise each workspace.
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

// readServes reads what a set serves from the files of its folder. A file that exists
// and is empty allows nothing.
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
			*into = append([]string{}, strings.Fields(string(text))...) // never nil, because the file exists
		}
	}
	return s, errors.Join(faults...)
}

// servesNamespace reports whether a namespace may use the set.
func (s Serves) servesNamespace(namespace string) bool {
	return slices.Contains(s.Namespaces, namespace) || slices.Contains(s.Namespaces, all)
}

// refusal returns what a use is not allowed for, regardless of its namespace, or "" if
// it is allowed. It names nothing that the set allows, because the refusal is shown to
// other tenants. It compares the words of the group's metadata with those of the files and
// makes no call. If the metadata has a slug and the file a UUID, or the other way
// round, they do not match; the file must list both.
func (s Serves) refusal(use Use) string {
	if s.Workspaces != nil && !slices.ContainsFunc(s.Workspaces, func(allowed string) bool {
		return allowed == all || strings.EqualFold(allowed, use.Scope.Workspace)
	}) {
		return fmt.Sprintf("workspace %q: its key %s does not list it", use.Scope.Workspace, workspacesFile)
	}
	// Bitbucket finds a repository by its UUID and ignores the workspace in the path.
	if s.Workspaces != nil && !slices.Contains(s.Workspaces, all) && bitbucket.IsUUID(use.Scope.Repository) && s.Repositories == nil {
		return fmt.Sprintf("repository %q, which could be of any workspace: want its slug, or its UUID in the key %s", use.Scope.Repository, repositoriesFile)
	}
	if s.Repositories != nil && !slices.ContainsFunc(s.Repositories, func(allowed string) bool {
		return allowed == all || use.Scope.Repository != "" && (strings.EqualFold(allowed, use.Scope.Repository) || strings.EqualFold(allowed, use.Scope.String()))
	}) {
		if use.Scope.Repository == "" {
			return fmt.Sprintf("a whole workspace: its key %s lists repositories", repositoriesFile)
		}
		return fmt.Sprintf("repository %q: its key %s does not list it", use.Scope.Repository, repositoriesFile)
	}
	if s.Labels == nil {
		return ""
	}
	for _, label := range use.Labels {
		if !slices.ContainsFunc(s.Labels, func(allowed string) bool {
			prefix, open := strings.CutSuffix(allowed, all)
			return allowed == label || open && strings.HasPrefix(label, prefix)
		}) {
			return fmt.Sprintf("label %q: its key %s does not list it", label, labelsFile)
		}
	}
	return ""
}

// Allows reports whether runners of a scope are allowed, regardless of their labels.
func (s Serves) Allows(scope bitbucket.Scope) bool { return s.refusal(Use{Scope: scope}) == "" }

var (
	// namespaceName matches a DNS label, which is the form of a namespace's name.
	namespaceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	labelName     = regexp.MustCompile(`^[a-z0-9.]{1,50}$`)
)

// faults reports empty files and words that can never match.
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
		"custom labels, of lower-case letters, digits and dots, or a prefix followed by *")
	return faults
}
