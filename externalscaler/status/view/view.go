// Package view shows what the control plane knows and does, as values of package api: groups,
// runners, steps, decisions, and what is wrong. It only reads.
package view

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// Fleet provides the observed groups.
type Fleet interface {
	// Observed returns all groups as of one moment: those with a snapshot, and why others have
	// none.
	Observed() (valid []*fleet.GroupSnapshot, faulty map[fleet.GroupKey]error)
	// Unserved returns the steps that ask for a runner and that no known runner serves.
	Unserved() []fleet.UnservedStep
	// Serving returns the group that serves steps of some labels in a repository.
	Serving(repository bitbucket.Scope, labels pipelines.Labels) (fleet.GroupKey, bool)
}

// Decisions decides how many runners a group should have.
type Decisions interface {
	Decide(key fleet.GroupKey) (policy.Decision, error)
	// Past returns the group's last changed decisions, oldest first.
	Past(key fleet.GroupKey) []policy.Decision
}

// CrashLoops knows which groups' Jobs keep failing.
type CrashLoops interface {
	State(group *fleet.GroupSnapshot) crashloop.State
}

// Queue knows the live pipelines.
type Queue interface {
	Look() (live []queue.LivePipeline, repositories []queue.RepositorySight)
}

// Config is where a Viewer looks.
type Config struct {
	Version, Owner string
	// Leads reports whether this process leads, and Leader names the one that does; empty if that
	// is not known.
	Leads  func() bool
	Leader func() string

	Fleet     Fleet
	Decisions Decisions
	Crashes   CrashLoops
	Queue     Queue
	Scopes    func() scope.Views
	// Credentials are the sets in use.
	Credentials func() []api.Credentials
	// Certificates are those that are served or published. It may be nil.
	Certificates func() []api.Certificate
	// LastCall is when KEDA last called for a group, and Polling how often it should; both zero
	// if that is not known.
	LastCall func(fleet.GroupKey) time.Time
	Polling  func(fleet.GroupKey) time.Duration
	// Webhooks is true if there is a listener for webhooks.
	Webhooks bool
	Now      func() time.Time
}

// Viewer shows a control plane. It is safe for concurrent use.
type Viewer struct {
	config Config

	mu      sync.Mutex
	taken   time.Time
	picture *Picture
}

// New returns a Viewer.
func New(config Config) *Viewer { return &Viewer{config: config} }

// Leads reports whether this process leads, and the name of the one that does, if it is known.
func (v *Viewer) Leads() (leads bool, leader string) {
	if v.config.Leader != nil {
		leader = v.config.Leader()
	}
	return v.config.Leads(), leader
}

// freshFor is how long one picture serves all readers.
const freshFor = 250 * time.Millisecond

// Picture is all that can be seen at one moment. It must not be changed.
type Picture struct {
	Installation api.Installation
	// Groups are sorted by namespace and name, and Runners and Steps by group.
	Groups  []api.Group
	Runners []api.Runner
	// Steps are those that run, wait, or will, except those that have not been reached.
	Steps []api.Step
	// Readers are groups that look at the repositories that cannot be read, one of each, by the
	// repository's name.
	Readers map[string]string
	// all are all steps that are known, in the order of their pipelines, and places are their
	// indexes by UUID.
	all    []api.Step
	places map[string]int

	tag sync.Once
	sum string
}

// Take returns the picture of now, or of a moment ago.
func (v *Viewer) Take() *Picture {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.config.Now()
	if v.picture == nil || now.Sub(v.taken) >= freshFor || now.Before(v.taken) {
		v.picture, v.taken = v.take(now), now
	}
	return v.picture
}

func (v *Viewer) take(now time.Time) *Picture {
	t := taking{Config: v.config, now: now, groups: map[fleet.GroupKey]*shownGroup{}, readers: map[string]string{}}
	t.look()
	p := &Picture{places: map[string]int{}}
	for _, g := range t.order {
		p.Groups = append(p.Groups, g.shown)
		p.Runners = append(p.Runners, g.runners...)
	}
	p.Steps, p.all = t.steps()
	for i, s := range p.all {
		p.places[s.UUID] = i
	}
	p.Installation, p.Readers = t.installation(), t.readers
	return p
}

// Tag changes if something in the picture does.
func (p *Picture) Tag() string {
	p.tag.Do(func() {
		sum := sha256.New()
		encoder := json.NewEncoder(sum)
		for _, part := range []any{p.Installation, p.Groups, p.Runners, p.Steps} {
			_ = encoder.Encode(part) // it cannot fail: all values are plain, and so is a hash
		}
		p.sum = hex.EncodeToString(sum.Sum(nil))
	})
	return p.sum
}

// Group returns a group of the picture.
func (p *Picture) Group(namespace, name string) (api.Group, bool) {
	for _, g := range p.Groups {
		if g.Namespace == namespace && g.Name == name {
			return g, true
		}
	}
	return api.Group{}, false
}

// Step returns the step of a UUID, with or without braces; false if it is not known.
func (p *Picture) Step(uuid string) (api.Step, bool) {
	i, ok := p.places["{"+strings.ToLower(strings.Trim(uuid, "{}"))+"}"]
	if !ok {
		return api.Step{}, false
	}
	return p.all[i], true
}

// Build returns the steps of one build of a repository, in their order. The repository is a slug,
// WORKSPACE/SLUG or a UUID.
func (p *Picture) Build(repository string, build int) []api.Step {
	var steps []api.Step
	for _, s := range p.all {
		if s.Build == build && p.In(s, repository) {
			steps = append(steps, s)
		}
	}
	return steps
}

// In reports whether a step is one of a repository, for all that is known: the slug of its
// workspace is only known from its group.
func (p *Picture) In(s api.Step, repository string) bool {
	workspace, name, both := strings.Cut(repository, "/")
	if !both {
		workspace, name = "", repository
	}
	linked := func(uuid string) bool { return strings.Contains(s.URL, "/"+url.PathEscape(strings.ToLower(uuid))+"/") }
	switch {
	case name != s.Repository && (!isUUID(name) || !linked(name)):
		return false
	case isUUID(workspace):
		return s.URL == "" || linked(workspace)
	}
	namespace, group, _ := strings.Cut(s.Group, "/")
	g, _ := p.Group(namespace, group)
	of, _, _ := strings.Cut(g.Scope, "/")
	return workspace == "" || of == "" || isUUID(of) || strings.EqualFold(workspace, of)
}

func isUUID(name string) bool { return strings.HasPrefix(name, "{") }

// Decisions returns the last changed decisions of a group, the newest first.
func (v *Viewer) Decisions(key fleet.GroupKey) []api.Decision {
	past := v.config.Decisions.Past(key)
	shown := make([]api.Decision, 0, len(past))
	for _, d := range slices.Backward(past) {
		shown = append(shown, decisionOf(key, d))
	}
	return shown
}

// at returns a time for JSON; nil if it is zero.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
