package queue

import (
	"errors"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// set is what is read with one credentials set.
type set struct {
	queue *Queue
	name  string
	// namespace is one that may use it.
	namespace    string
	workspaces   map[string]*workspace  // by UUID
	repositories map[string]*repository // by UUID
	// named are the repositories that groups name by slug, by workspace/slug.
	named map[string]*named
	// parsing is how long Bitbucket takes, lately, from the delivery that names a pipeline until
	// it has parsed the file. A read before that is a call for nothing.
	parsing time.Duration
	// reading counts the reads in progress.
	reading int
	// pausedUntil is when the next read may be tried after the budget refused one, and err why.
	pausedUntil time.Time
	err         error
}

// workspace is a workspace of which a group takes the steps of all repositories.
type workspace struct {
	uuid   string
	wanted bool
	since  time.Time // when it was first known
	// hookedAt is when the last delivery of any of its repositories came.
	hookedAt time.Time
	looked   time.Time // when the last list of changed repositories was begun
	latest   time.Time // the newest change in it
	due      time.Time
	err      error
	failures int
	reading  bool
}

// named is a repository that a group names by its slug.
type named struct {
	scope    bitbucket.Scope
	uuid     string // once it is known
	wanted   bool
	since    time.Time // when it was first known
	due      time.Time
	err      error
	failures int
	reading  bool
}

func newSet(q *Queue, name, namespace string) *set {
	return &set{
		queue: q, name: name, namespace: namespace, workspaces: map[string]*workspace{}, repositories: map[string]*repository{}, named: map[string]*named{},
	}
}

func (s *set) unwant() {
	for _, w := range s.workspaces {
		w.wanted = false
	}
	for _, r := range s.repositories {
		r.own = false
	}
	for _, n := range s.named {
		n.wanted = false
	}
}

// want notes what a group needs.
func (s *set) want(group Group, now time.Time) {
	s.namespace = group.Namespace
	if group.Scope.Repository != "" {
		s.own(group.Scope, now)
		return
	}
	w := s.workspaces[group.Scope.Workspace]
	if w == nil {
		w = &workspace{uuid: group.Scope.Workspace, since: now, due: now}
		s.workspaces[w.uuid] = w
	}
	w.wanted = true
	for _, name := range group.Repositories {
		in := bitbucket.Scope{Workspace: w.uuid, Repository: name}
		n := s.named[in.String()]
		if n == nil {
			n = &named{scope: in, since: now, due: now}
			if bitbucket.IsUUID(name) {
				n.uuid = strings.ToLower(name)
			}
			s.named[in.String()] = n
		}
		n.wanted = true
		if n.uuid != "" {
			s.own(bitbucket.Scope{Workspace: w.uuid, Repository: n.uuid}, now)
		}
	}
}

// own makes a repository one that a group names.
func (s *set) own(in bitbucket.Scope, now time.Time) {
	r := s.repositories[in.Repository]
	if r == nil {
		r = s.add(in, now)
	}
	if r != nil {
		r.own = true
	}
}

// drop removes what no group needs. It reports whether nothing is left.
func (s *set) drop() (empty bool) {
	for uuid, w := range s.workspaces {
		if !w.wanted {
			delete(s.workspaces, uuid)
		}
	}
	for name, n := range s.named {
		if !n.wanted {
			delete(s.named, name)
		}
	}
	for uuid, r := range s.repositories {
		if !r.own && !s.reaches(r.scope) {
			delete(s.repositories, uuid)
		}
	}
	return len(s.workspaces)+len(s.repositories)+len(s.named) == 0
}

// reaches reports whether a group of the set can take steps of a repository.
func (s *set) reaches(in bitbucket.Scope) bool {
	if r := s.repositories[in.Repository]; r != nil && r.own {
		return r.scope == in
	}
	return s.workspaces[in.Workspace] != nil
}

// add makes a repository known; nil if too many are. One that has shown no sign of life for
// longest gives way.
func (s *set) add(in bitbucket.Scope, now time.Time) *repository {
	if len(s.repositories) >= mostRepositories {
		var oldest *repository
		for _, r := range s.repositories {
			if !r.own && (oldest == nil || r.touched.Before(oldest.touched)) {
				oldest = r
			}
		}
		if oldest == nil {
			return nil
		}
		delete(s.repositories, oldest.scope.Repository)
	}
	r := newRepository(s, in, now)
	s.repositories[in.Repository] = r
	return r
}

// hint takes a hint. It reports whether the hint is for a repository of a group.
func (s *set) hint(h Hint, now time.Time) bool {
	in := bitbucket.Scope{Workspace: strings.ToLower(h.Workspace), Repository: strings.ToLower(h.Repository)}
	if !bitbucket.IsUUID(in.Workspace) || !bitbucket.IsUUID(in.Repository) || !s.reaches(in) {
		return false
	}
	if w := s.workspaces[in.Workspace]; w != nil {
		w.hookedAt = now
	}
	r := s.repositories[in.Repository]
	if r == nil {
		if r = s.add(in, now); r == nil {
			return false
		}
	}
	return r.take(h, now)
}

// note keeps whether Bitbucket or the budget refuses all reads of the set.
func (s *set) note(err error, now time.Time) {
	var limited *bitbucket.RateLimitedError
	switch {
	case err == nil, errors.Is(err, bitbucket.ErrNotFound), errors.Is(err, bitbucket.ErrForbidden), errors.Is(err, bitbucket.ErrMissingScope):
		s.err = nil // Bitbucket has answered
		return
	case errors.As(err, &limited):
		s.pausedUntil = now.Add(max(limited.RetryAfter, retryBase))
	case errors.Is(err, bitbucket.ErrBudgetExhausted):
		s.pausedUntil = now.Add(time.Minute)
	default:
		return
	}
	s.err = err
}

// parsed learns from a pipeline that was named by a delivery at some time. early is true if a read
// before this one found it not parsed.
func (s *set) parsed(hinted time.Time, early bool, now time.Time) {
	if early {
		s.parsing = min(now.Sub(hinted), mostParsing)
	} else {
		s.parsing -= s.parsing / 64 // it may be faster by now
	}
}

// parseRetry is the time to the next look at a pipeline that has not been parsed.
func (s *set) parseRetry(failures int) time.Duration {
	return min(max(s.parsing/8, parseFloor)<<min(failures, 7), confirmInterval)
}

// blocked says why nothing can be read now; empty if it can.
func (s *set) blocked() string {
	if s.err == nil {
		return ""
	}
	if errors.Is(s.err, bitbucket.ErrBudgetExhausted) {
		return "the hourly budget of the credentials leaves no calls for it"
	}
	return "Bitbucket limits the calls of the credentials"
}

// retry counts a failed read and returns when to try it again. Of a call that the budget has refused
// nothing is known, so it is tried as soon as the set may read.
func (s *set) retry(failures *int, err error, now time.Time) time.Time {
	if errors.Is(err, bitbucket.ErrBudgetExhausted) {
		return s.pausedUntil
	}
	*failures++
	return now.Add(backoff(*failures))
}

// backoff is the time to the next try after a number of failures in a row.
func backoff(failures int) time.Duration {
	return min(retryBase<<min(max(failures-1, 0), 10), retryMost)
}
