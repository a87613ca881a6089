// Package source is what the repositories of the emulator contain: branches, and commits
// with one file, bitbucket-pipelines.yml.
package source

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// File is the name of the only file.
const File = "bitbucket-pipelines.yml"

// maxCommits bounds the memory. The oldest commits that no branch needs are dropped.
const maxCommits = 20_000

// Source is what a repository contains. It has the main branch from the start.
type Source struct {
	commits  map[string]*Commit
	order    []string          // hashes, oldest first
	branches map[string]string // hashes by name
}

// Commit has a file, that of the pipeline which was queued with it, or none.
type Commit struct {
	File   []byte
	Queued *pipelines.Pipeline
}

// New returns a repository with an empty commit on the main branch.
func New() *Source {
	src := &Source{commits: map[string]*Commit{}, branches: map[string]string{}}
	src.Push(resource.MainBranch, &Commit{})
	return src
}

// Push adds a commit to a branch and returns its hash.
func (src *Source) Push(branch string, c *Commit) string {
	sum := sha256.Sum256([]byte(rand.Text()))
	hash := hex.EncodeToString(sum[:20])
	src.commits[hash], src.branches[branch] = c, hash
	src.order = append(src.order, hash)
	for len(src.order) > maxCommits {
		src.Drop(src.order[0])
		src.order = src.order[1:]
	}
	return hash
}

// Drop forgets a commit, unless it is the head of a branch.
func (src *Source) Drop(hash string) {
	for _, head := range src.branches {
		if head == hash {
			return
		}
	}
	delete(src.commits, hash)
}

// Head returns the hash of a branch, or nothing.
func (src *Source) Head(branch string) string { return src.branches[branch] }

// Find returns the hash of a branch, or of a commit by its hash or the beginning of it.
func (src *Source) Find(name string) (hash string, ok bool) {
	if head, is := src.branches[name]; is {
		return head, true
	}
	if _, is := src.commits[name]; is {
		return name, true
	}
	const shortest = 7
	if len(name) < shortest {
		return "", false
	}
	i := slices.IndexFunc(src.order, func(hash string) bool { return strings.HasPrefix(hash, name) })
	if i < 0 {
		return "", false
	}
	return src.order[i], src.commits[src.order[i]] != nil
}

// Read returns the file of a commit, if it has one.
func (src *Source) Read(hash string) (file []byte, ok bool) {
	c := src.commits[hash]
	switch {
	case c == nil:
		return nil, false
	case c.Queued != nil:
		return c.Queued.File(), true
	}
	return c.File, c.File != nil
}
