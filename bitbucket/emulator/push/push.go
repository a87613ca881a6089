// Package push is what the emulator's control for pushes asks for: a commit on a branch, a tag
// or a bookmark, with files, and the pipelines that it starts: that of its ref, that of its pull
// request, and those of the rules under triggers.
package push

import (
	"errors"
	"fmt"

	"bitbucket-runner-scaler/bitbucket/emulator/condition"
	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/source"
)

// Request pushes a commit with a bitbucket-pipelines.yml to a branch, which starts the
// pipelines that the file defines for it.
type Request struct {
	// Workspace and Repository are slugs or {uuid}s.
	Workspace  string `json:"workspace"`
	Repository string `json:"repository"`
	// Branch is created if it does not exist. Default main.
	Branch string `json:"branch,omitempty"`
	// Tag or Bookmark is pushed instead of the branch. Without files it names the head of the
	// branch.
	Tag      string `json:"tag,omitempty"`
	Bookmark string `json:"bookmark,omitempty"`
	// File is the bitbucket-pipelines.yml. A commit without one starts nothing.
	File string `json:"file"`
	// Files are other files by path, such as those from which File imports. Later commits
	// keep them.
	Files map[string]string `json:"files,omitempty"`
	// Changed are the files that the commit changes, for conditions. Default those of File
	// and Files that are new or different.
	Changed []string `json:"changed,omitempty"`
	// PullRequest is the branch into which an open pull request of the branch goes. The push
	// also starts the pipeline for it.
	PullRequest string `json:"pullRequest,omitempty"`
	// Runs is what Bitbucket runs instead of File, as with a dynamic pipeline. Clients still
	// read File.
	Runs string `json:"runs,omitempty"`
}

// Answer is the answer to a Request.
type Answer struct {
	Commit string `json:"commit"`
	// Pipeline is the first pipeline that was started. It is empty if the file defines none
	// for the ref.
	Pipeline string `json:"pipeline,omitempty"`
	// Pipelines are all of them.
	Pipelines []string `json:"pipelines,omitempty"`
}

// Check completes a request.
func (r *Request) Check() error {
	if r.Branch == "" {
		r.Branch = resource.MainBranch
	}
	var faults []error
	if r.Tag != "" && r.Bookmark != "" {
		faults = append(faults, errors.New("tag, bookmark: both given, want one"))
	}
	if r.PullRequest != "" && r.Tag+r.Bookmark != "" {
		faults = append(faults, errors.New("pullRequest: want a branch, not a tag or bookmark"))
	}
	if r.Runs != "" && r.File == "" {
		faults = append(faults, errors.New("runs: want file too"))
	}
	for path := range r.Files {
		if path == "" || path == source.File {
			faults = append(faults, fmt.Errorf("files: %q, want other files than %s", path, source.File))
		}
	}
	return errors.Join(faults...)
}

// Ref returns the type and the name of what is pushed.
func (r *Request) Ref() (kind, name string) {
	switch {
	case r.Tag != "":
		return "tag", r.Tag
	case r.Bookmark != "":
		return "bookmark", r.Bookmark
	}
	return "branch", r.Branch
}

// Names reports whether the push only names the head of the branch.
func (r *Request) Names() bool { return r.Tag+r.Bookmark != "" && r.File == "" && len(r.Files) == 0 }

// Commit returns the commit.
func (r *Request) Commit() *source.Commit {
	c := &source.Commit{Files: map[string][]byte{}, Changes: r.Changed}
	for path, text := range r.Files {
		c.Files[path] = []byte(text)
	}
	if r.File != "" {
		c.Files[source.File] = []byte(r.File)
	}
	return c
}

// Orders returns the pipelines that the push starts. Some of them may have no definition. A file
// that cannot be read is nil, and starts that of the ref.
func (r *Request) Orders(f *definition.File, hash string) []pipelines.Order {
	kind, name := r.Ref()
	target := pipelines.Target{Kind: pipelines.RefTarget, RefType: kind, RefName: name, Commit: hash}
	orders := []pipelines.Order{{Target: target, Wanted: definition.Wanted{RefType: kind, RefName: name}, Trigger: pipelines.TriggerPush}}
	if f == nil {
		return orders
	}
	events := []string{"repository-push"}
	if r.PullRequest != "" {
		events = append(events, "pullrequest-push")
		orders = append(orders, pipelines.Order{
			Target: pipelines.Target{Kind: pipelines.PullRequestTarget, Source: name, Destination: r.PullRequest, PullRequest: 1, Commit: hash},
			Wanted: definition.Wanted{RefType: "pullrequest", RefName: name}, Trigger: pipelines.TriggerPush,
		})
	}
	for i, event := range events {
		started := orders[i]
		variables := started.Target.Variables()
		for _, selector := range f.Triggered(event, func(given string) bool {
			holds, err := condition.Evaluate(given, variables)
			return holds || err != nil
		}) {
			started.Wanted.Selector = selector
			orders = append(orders, started)
		}
	}
	return orders
}
