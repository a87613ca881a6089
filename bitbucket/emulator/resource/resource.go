// Package resource has the JSON objects of Bitbucket's API that several routes and webhooks
// show: workspaces, repositories, projects, accounts, commits and their links. It has no
// state and knows no route.
package resource

import (
	"net/url"
	"time"
)

// Site is the address at which the reader of an object reaches Bitbucket, such as
// http://host:port. It has the API under /2.0, and the pages for people at the top.
type Site string

// Names identify a repository. UUIDs are in braces.
type Names struct {
	WorkspaceUUID, Workspace string
	UUID, Slug               string
}

// FullName is "workspace/repository".
func (n Names) FullName() string { return n.Workspace + "/" + n.Slug }

// Time is a time in the layout that Bitbucket uses outside of pipelines and runners.
type Time string

// At returns a time as JSON has it.
func At(t time.Time) Time { return Time(t.UTC().Format("2006-01-02T15:04:05.000000+00:00")) }

// Link is one link of an object.
type Link struct {
	Href string `json:"href"`
}

// Links are the links of an object, by name.
type Links map[string]Link

// API returns the address of a path of the API. Its segments are escaped.
func (s Site) API(segments ...string) Link { return s.link("/2.0", segments) }

// Page returns the address of a page for people.
func (s Site) Page(segments ...string) Link { return s.link("", segments) }

func (s Site) link(root string, segments []string) Link {
	href := string(s) + root
	for _, segment := range segments {
		href += "/" + url.PathEscape(segment)
	}
	return Link{href}
}

type (
	// Workspace is a workspace, or the account that owns a repository.
	Workspace struct {
		Type      string `json:"type"`
		UUID      string `json:"uuid"`
		Slug      string `json:"slug,omitempty"`
		Username  string `json:"username,omitempty"`
		Name      string `json:"name,omitempty"`
		Display   string `json:"display_name,omitempty"`
		IsPrivate bool   `json:"is_private,omitempty"`
		CreatedOn Time   `json:"created_on,omitempty"`
		Links     Links  `json:"links"`
	}
	// Project is the project of a repository.
	Project struct {
		Type  string `json:"type"`
		UUID  string `json:"uuid"`
		Key   string `json:"key"`
		Name  string `json:"name"`
		Links Links  `json:"links"`
	}
	// Branch is a branch by its name.
	Branch struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}
	// Repository is a repository. Other objects contain only its first six fields.
	Repository struct {
		Type      string     `json:"type"`
		UUID      string     `json:"uuid"`
		Name      string     `json:"name"`
		FullName  string     `json:"full_name"`
		Links     Links      `json:"links"`
		Workspace *Workspace `json:"workspace,omitempty"`

		Slug       string     `json:"slug,omitempty"`
		Owner      *Workspace `json:"owner,omitempty"`
		Project    *Project   `json:"project,omitempty"`
		MainBranch *Branch    `json:"mainbranch,omitempty"`
		SCM        string     `json:"scm,omitempty"`
		IsPrivate  bool       `json:"is_private,omitempty"`
		CreatedOn  Time       `json:"created_on,omitempty"`
		UpdatedOn  Time       `json:"updated_on,omitempty"`
	}
	// User is an account.
	User struct {
		Type        string `json:"type"`
		UUID        string `json:"uuid"`
		AccountID   string `json:"account_id"`
		Nickname    string `json:"nickname"`
		DisplayName string `json:"display_name"`
		Links       Links  `json:"links"`
	}
	// Commit is a commit of a repository.
	Commit struct {
		Type  string `json:"type"`
		Hash  string `json:"hash"`
		Links Links  `json:"links"`
	}
)

// MainBranch is the main branch of every repository.
const MainBranch = "main"

// UserUUID is the UUID of the account to which all credentials with an account belong.
const UserUUID = "{44444444-4444-4444-8444-444444444444}"

// projectUUID is the UUID of the project to which all repositories belong.
const projectUUID = "{55555555-5555-4555-8555-555555555555}"

// Workspace returns a workspace by its slug and UUID.
func (s Site) Workspace(slug, uuid string) Workspace {
	return Workspace{Type: "workspace", UUID: uuid, Slug: slug, Name: slug, Links: Links{
		"self": s.API("workspaces", slug), "html": s.Page(slug), "avatar": s.Page("workspaces", slug, "avatar"),
	}}
}

// Repository returns the short form of a repository, as other objects contain it.
func (s Site) Repository(n Names) Repository {
	return Repository{Type: "repository", UUID: n.UUID, Name: n.Slug, FullName: n.FullName(), Links: Links{
		"self": s.API("repositories", n.Workspace, n.Slug), "html": s.Page(n.Workspace, n.Slug),
		"avatar": s.Page(n.Workspace, n.Slug, "avatar"),
	}}
}

// FullRepository returns all of a repository.
func (s Site) FullRepository(n Names, created, updated time.Time) Repository {
	r := s.Repository(n)
	workspace := s.Workspace(n.Workspace, n.WorkspaceUUID)
	r.Workspace = &workspace
	r.Owner = &Workspace{
		Type: "team", UUID: n.WorkspaceUUID, Username: n.Workspace, Display: n.Workspace,
		Links: Links{"self": s.API("workspaces", n.WorkspaceUUID), "html": s.Page(n.WorkspaceUUID)},
	}
	r.Project = &Project{
		Type: "project", UUID: projectUUID, Key: "PROJ", Name: "Project",
		Links: Links{"self": s.API("workspaces", n.Workspace, "projects", "PROJ"), "html": s.Page(n.Workspace, "workspace", "projects", "PROJ")},
	}
	r.Slug, r.SCM, r.IsPrivate = n.Slug, "git", true
	r.MainBranch = &Branch{Type: "branch", Name: MainBranch}
	r.CreatedOn, r.UpdatedOn = At(created), At(updated)
	for _, list := range []string{"pipelines", "commits", "branches", "hooks", "src"} {
		r.Links[list] = s.API("repositories", n.Workspace, n.Slug, list)
	}
	return r
}

// User returns the account to which all credentials with an account belong.
func (s Site) User(nickname string) User {
	return User{
		Type: "user", UUID: UserUUID, AccountID: "557058:44444444-4444-4444-8444-444444444444",
		Nickname: nickname, DisplayName: "Dev of Example",
		Links: Links{"self": s.API("users", UserUUID), "html": s.Page(UserUUID), "avatar": s.Page("account", nickname, "avatar")},
	}
}

// Commit returns a commit.
func (s Site) Commit(n Names, hash string) Commit {
	return Commit{Type: "commit", Hash: hash, Links: Links{
		"self": s.API("repositories", n.Workspace, n.Slug, "commit", hash), "html": s.Page(n.Workspace, n.Slug, "commits", hash),
	}}
}
