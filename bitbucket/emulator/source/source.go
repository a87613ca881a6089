// Package source is what the repositories of the emulator contain: branches and tags, and
// commits with a bitbucket-pipelines.yml and the files that it imports from.
package source

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// File is the file that defines pipelines.
const File = definition.FileName

// maxCommits bounds the memory. The oldest commits that no branch needs are dropped.
const maxCommits = 20_000

// Source is what a repository contains. It has the main branch from the start.
type Source struct {
	commits map[string]*Commit
	order   []string          // hashes, oldest first
	refs    map[string]string // hashes by the name of a branch, tag or bookmark
}

// Commit has files, or the file of the pipeline which was queued with it.
type Commit struct {
	// Files are by path.
	Files  map[string][]byte
	Queued *pipelines.Pipeline
	// Changes are the paths of the files that the commit changes; nil if they are not known.
	Changes []string
}

// New returns a repository with an empty commit on the main branch.
func New() *Source {
	src := &Source{commits: map[string]*Commit{}, refs: map[string]string{}}
	src.Push(resource.MainBranch, &Commit{})
	return src
}

// Push adds a commit to a branch, tag or bookmark and returns its hash. A new ref begins at the
// main branch. A commit keeps the files of the one before it, except bitbucket-pipelines.yml. If
// it does not say what it changes, it changes its files that are different.
func (src *Source) Push(ref string, c *Commit) string {
	if c.Files == nil {
		c.Files = map[string][]byte{}
	}
	before := src.commits[src.refs[ref]]
	if before == nil {
		before = src.commits[src.refs[resource.MainBranch]]
	}
	if before != nil {
		if c.Changes == nil {
			c.Changes = []string{}
			for path, content := range c.Files {
				if old, ok := before.Files[path]; !ok || !bytes.Equal(old, content) {
					c.Changes = append(c.Changes, path)
				}
			}
		}
		files := maps.Clone(before.Files)
		delete(files, File)
		for path, content := range files {
			if _, given := c.Files[path]; !given {
				c.Files[path] = content
			}
		}
	}
	sum := sha256.Sum256([]byte(rand.Text()))
	hash := hex.EncodeToString(sum[:20])
	src.commits[hash], src.refs[ref] = c, hash
	src.order = append(src.order, hash)
	for len(src.order) > maxCommits {
		src.Drop(src.order[0])
		src.order = src.order[1:]
	}
	return hash
}

// Name makes a ref the name of a commit.
func (src *Source) Name(ref, hash string) { src.refs[ref] = hash }

// Drop forgets a commit, unless it is the head of a branch.
func (src *Source) Drop(hash string) {
	for _, head := range src.refs {
		if head == hash {
			return
		}
	}
	delete(src.commits, hash)
}

// Head returns the hash of a branch or tag, or nothing.
func (src *Source) Head(ref string) string { return src.refs[ref] }

// Find returns the hash of a branch or tag, or of a commit by its hash or the beginning of it.
func (src *Source) Find(name string) (hash string, ok bool) {
	if head, is := src.refs[name]; is {
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

// Read returns a file of a commit, if it has it.
func (src *Source) Read(hash, path string) (file []byte, ok bool) {
	c := src.commits[hash]
	switch {
	case c == nil:
		return nil, false
	case c.Queued != nil && path == File:
		return c.Queued.SideFile(), true
	}
	file, ok = c.Files[path]
	return file, ok
}

// Changes returns what a commit changes; nil if that is not known.
func (src *Source) Changes(hash string) []string {
	if c := src.commits[hash]; c != nil {
		return c.Changes
	}
	return nil
}
