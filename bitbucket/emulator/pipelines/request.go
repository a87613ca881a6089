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
