package pipelines

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
)

// Request is the target of a POST that starts a pipeline.
type Request struct {
	Type     string              `json:"type"`
	RefType  string              `json:"ref_type"`
	RefName  string              `json:"ref_name"`
	Source   string              `json:"source"`
	Dest     string              `json:"destination"`
	Selector definition.Selector `json:"selector"`
	Commit   struct {
		Hash string `json:"hash"`
	} `json:"commit"`
	PullRequest struct {
		ID json.Number `json:"id"`
	} `json:"pullrequest"`
}

// InQuery reads a target from a query that has its paths in the JSON as keys.
func InQuery(query url.Values) Request {
	get := query.Get
	given := Request{
		Type: get("target.type"), RefType: get("target.ref_type"), RefName: get("target.ref_name"),
		Source: get("target.source"), Dest: get("target.destination"),
		Selector: definition.Selector{Type: get("target.selector.type"), Pattern: get("target.selector.pattern")},
	}
	given.Commit.Hash = get("target.commit.hash")
	given.PullRequest.ID = json.Number(get("target.pullrequest.id"))
	return given
}

// Commits finds the hash of a branch or a commit.
type Commits interface {
	Find(name string) (hash string, ok bool)
}

// Read checks the target and completes it.
func (g Request) Read(commits Commits) (Target, definition.Wanted, error) {
	t := Target{Kind: g.Type, RefType: g.RefType, RefName: g.RefName, Commit: g.Commit.Hash}
	wanted := definition.Wanted{Selector: g.Selector, RefType: g.RefType, RefName: g.RefName}
	name := t.Commit
	switch g.Type {
	case RefTarget:
		if g.RefType == "" || g.RefName == "" {
			return t, wanted, errors.New("target: want ref_type and ref_name")
		}
		if name == "" {
			name = g.RefName
		}
	case CommitTarget:
		t.RefType, t.RefName, wanted.RefType = "", "", ""
		if name == "" {
			return t, wanted, errors.New("target: want commit.hash")
		}
	case PullRequestTarget:
		t.RefType, t.RefName, t.Source, t.Destination = "", "", g.Source, g.Dest
		t.PullRequest, _ = strconv.Atoi(g.PullRequest.ID.String())
		wanted.RefType, wanted.RefName = "pullrequest", g.Source
		if name == "" {
			name = g.Source
		}
	default:
		return t, wanted, fmt.Errorf("target.type: %q, want %s, %s or %s", g.Type, RefTarget, CommitTarget, PullRequestTarget)
	}
	hash, ok := commits.Find(name)
	if !ok {
		return t, wanted, fmt.Errorf("target: no branch or commit %q", name)
	}
	t.Commit = hash
	return t, wanted, nil
}

// Order is a pipeline to start.
type Order struct {
	Repository Repository
	Target     Target
	Trigger    string
	// File defines it, as the pipeline that is Wanted, and Fault is why it cannot be read.
	// Without a file, Definition does.
	File       *definition.File
	Wanted     definition.Wanted
	Fault      error
	Definition definition.Pipeline
	// Changes are the files that the commit changes.
	Changes []string
	// Variables are given by the caller. They replace those of the file.
	Variables map[string]string
	// Parent is the step that starts it, nil for none.
	Parent *Step
}

// Variables returns Bitbucket's own variables for a target.
func (t Target) Variables() map[string]string {
	v := map[string]string{"BITBUCKET_COMMIT": t.Commit}
	switch t.RefType {
	case "branch", "named_branch":
		v["BITBUCKET_BRANCH"] = t.RefName
	case "tag":
		v["BITBUCKET_TAG"] = t.RefName
	case "bookmark":
		v["BITBUCKET_BOOKMARK"] = t.RefName
	}
	if t.Kind == PullRequestTarget {
		v["BITBUCKET_BRANCH"], v["BITBUCKET_PR_DESTINATION_BRANCH"], v["BITBUCKET_PR_ID"] = t.Source, t.Destination, strconv.Itoa(t.PullRequest)
	}
	return v
}

// Variables are the variables of a call that starts a pipeline.
type Variables []struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Map returns them by key.
func (v Variables) Map() map[string]string {
	all := make(map[string]string, len(v))
	for _, one := range v {
		all[one.Key] = one.Value
	}
	return all
}
