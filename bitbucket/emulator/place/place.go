// Package place says which workspaces and repositories exist in an emulator at its start. What
// becomes of them is not in it.
package place

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/google/uuid"
)

// The UUIDs of the workspace acme and its repositories app and web.
const (
	WorkspaceUUID     = "{11111111-1111-4111-8111-111111111111}"
	AppRepositoryUUID = "{22222222-2222-4222-8222-222222222222}"
	WebRepositoryUUID = "{33333333-3333-4333-8333-333333333333}"
)

// Workspace is a workspace that exists. Both names are required.
type Workspace struct {
	// UUID is in braces.
	UUID, Slug   string
	Repositories []Repository
}

// Repository is a repository of a workspace. Both names are required.
type Repository struct {
	// UUID is in braces.
	UUID, Slug string
}

const acme = "acme"

// Acme is the workspace that exists by default, with more repositories than app and web. Their
// UUIDs follow from their slugs.
func Acme(more ...string) Workspace {
	w := Workspace{
		UUID: WorkspaceUUID, Slug: acme,
		Repositories: []Repository{{UUID: AppRepositoryUUID, Slug: "app"}, {UUID: WebRepositoryUUID, Slug: "web"}},
	}
	for _, slug := range more {
		w.Repositories = append(w.Repositories, repository(acme, slug))
	}
	return w
}

// Acmes are n workspaces: acme, acme-2, acme-3 and so on, each with app, web and these repositories.
// Their UUIDs follow from their slugs.
func Acmes(n int, more ...string) []Workspace {
	all := []Workspace{Acme(more...)}
	for i := 2; i <= n; i++ {
		slug := acme + "-" + strconv.Itoa(i)
		w := Workspace{UUID: named(slug), Slug: slug}
		for _, r := range all[0].Repositories {
			w.Repositories = append(w.Repositories, repository(slug, r.Slug))
		}
		all = append(all, w)
	}
	return all
}

func repository(workspace, slug string) Repository {
	return Repository{UUID: named(workspace + "/" + slug), Slug: slug}
}

// named is the UUID of a name.
func named(name string) string {
	return "{" + uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)).String() + "}"
}

var uuidPattern = regexp.MustCompile(`^\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}$`)

// Validate reports all faults of workspaces at once.
func Validate(all []Workspace) error {
	var faults []error
	for _, w := range all {
		if w.Slug == "" || !uuidPattern.MatchString(w.UUID) {
			faults = append(faults, fmt.Errorf("workspace: slug %q, uuid %q, want a slug and a {uuid}", w.Slug, w.UUID))
		}
		for _, r := range w.Repositories {
			if r.Slug == "" || !uuidPattern.MatchString(r.UUID) {
				faults = append(faults, fmt.Errorf("repository of %s: slug %q, uuid %q, want a slug and a {uuid}", w.Slug, r.Slug, r.UUID))
			}
		}
	}
	return errors.Join(faults...)
}
