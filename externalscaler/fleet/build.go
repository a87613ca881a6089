package fleet

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// input is all that a snapshot is built from.
type input struct {
	now time.Time
	// requested is how often a snapshot had been asked for when this was read.
	requested  int64
	scaledJobs []ScaledJob
	jobs       []Job
	pods       []Pod
	called     map[GroupKey]calledGroup
	views      scope.Views
	reports    reports
	queue      *queue.Snapshot // nil if nobody reads it
	history    history
}

// snapshot is everything as of one moment. It is immutable.
type snapshot struct {
	requested int64
	groups    map[GroupKey]*GroupSnapshot
	errs      map[GroupKey]error
	views     scope.Views
	// pods are the positions of the groups' members by their pods' UIDs.
	pods map[string]position
	*grouping
	// reports are what the sidecars of these pods have reported.
	reports reports
	// orphaned are the pods that belong to no group any more, though their runners
	// are registered.
	orphaned []Member
	// unserved are the steps that no group serves.
	unserved []UnservedStep
	// serving are the valid groups as the queue knows them, in the order of their names.
	serving []queue.Group
}

// position is where a snapshot has a member.
type position struct {
	group  GroupKey
	member int
}

// findings are what building a snapshot found out, for the caller to pass on.
type findings struct {
	// wanted are the scopes that must be polled.
	wanted []scope.Wanted
	// distrusted are the lists that lack a step that there is.
	distrusted []distrusted
	// reused counts the runners of ephemeral groups that took another step.
	reused  int64
	history history
	// demand is for the queue.
	demand queue.Demand
}

type distrusted struct {
	scope.ID
	listBegun time.Time
}

// members are those of all groups, and the orphaned pods, whose group is nil.
func (s *snapshot) members() iter.Seq2[*GroupSnapshot, *Member] {
	return func(yield func(*GroupSnapshot, *Member) bool) {
		for _, group := range s.groups {
			for i := range group.Members {
				if !yield(group, &group.Members[i]) {
					return
				}
			}
		}
		for i := range s.orphaned {
			if !yield(nil, &s.orphaned[i]) {
				return
			}
		}
	}
}

// builder builds one snapshot.
type builder struct {
	Config
	in    input
	next  *snapshot
	found findings
	// ours are the runners of this installation by name, for each scope.
	ours map[scope.ID]map[string][]*bitbucket.Runner
	// before are the groups of the snapshot before, if their members may be kept.
	before map[GroupKey]*GroupSnapshot
}

// build joins all that is known into the next snapshot. It changes nothing.
func (c Config) build(in input) (*snapshot, findings) {
	b := &builder{
		Config: c, in: in,
		next: &snapshot{
			requested: in.requested, groups: map[GroupKey]*GroupSnapshot{}, errs: map[GroupKey]error{},
			views: in.views, pods: make(map[string]position, len(in.pods)), grouping: groupingOf(in.jobs, in.pods, in.history.grouping), reports: in.reports,
		},
		ours:  map[scope.ID]map[string][]*bitbucket.Runner{},
		found: findings{history: history{parsed: map[string]parsed{}}},
	}
	b.before = b.in.history.membersFor(b.in, b.next.grouping)
	if c.Kubernetes != nil {
		b.groupsOfKubernetes()
	} else {
		b.groupsOfCalls()
	}
	b.joinQueue()
	b.reserve()
	b.trackIdle()
	b.trackUse()
	b.retain()
	b.found.history.grouping, b.found.history.joined = b.next.grouping, joinedFrom{in.scaledJobs, in.views, in.reports, b.next.groups}
	return b.next, b.found
}

// groupsOfKubernetes reads the groups from their ScaledJobs and joins each with
// its Jobs, their pods, and the runners named after those.
func (b *builder) groupsOfKubernetes() {
	scaledJobs := slices.Clone(b.in.scaledJobs)
	slices.SortFunc(scaledJobs, func(a, b ScaledJob) int { // the older of two duplicates stays
		return cmp.Or(a.CreatedOn.Compare(b.CreatedOn), a.compare(b.GroupKey))
	})
	var accepted []*GroupSnapshot
	for _, scaledJob := range scaledJobs {
		group, err := b.groupOf(scaledJob, accepted)
		if err != nil {
			b.next.errs[scaledJob.GroupKey] = err
			continue
		}
		accepted = append(accepted, group)
		own := parent{scaledJob.Namespace, scaledJob.UID}
		if !b.keep(group) {
			b.join(group, b.next.jobs[own])
		}
		group.observe()
		group.Failed = b.next.failed[own]
		for i := range group.Members {
			if member := &group.Members[i]; member.Pod != nil {
				b.next.pods[member.Pod.UID] = position{group: group.GroupKey, member: i}
			}
		}
		b.next.groups[group.GroupKey] = group
	}
	b.joinOrphaned()
}

// groupOf reads the group of a ScaledJob, unless an older one has the same runners.
func (b *builder) groupOf(s ScaledJob, accepted []*GroupSnapshot) (*GroupSnapshot, error) {
	spec, err := b.parse(s)
	if err != nil {
		return nil, err
	}
	group, err := b.group(s.GroupKey, spec, b.in.now)
	if err != nil {
		return nil, err
	}
	for _, other := range accepted {
		if other.view.Same(group.view) && other.Spec.SameRunners(spec) {
			return nil, &DuplicateError{Other: other.GroupKey}
		}
	}
	group.UID, group.Generation, group.Hold, group.Metadata = s.UID, s.Generation, s.Hold, s.Metadata
	return group, nil
}

// group makes a group without members, if it may use its credentials set, before
// anything is asked of Bitbucket for it.
func (b *builder) group(key GroupKey, spec runnergroup.Group, asked time.Time) (*GroupSnapshot, error) {
	if err := b.Admit(key, spec); err != nil {
		return nil, err
	}
	id := scope.ID{Credentials: spec.Credentials, Scope: bitbucket.Scope{Workspace: spec.Workspace, Repository: spec.Repository}}
	if _, known := b.in.views[id]; !known && b.Kubernetes == nil && b.countScopes() >= b.MaxScopes {
		return nil, fmt.Errorf("%d scopes are served already: %w", b.countScopes(), ErrTooManyScopes)
	}
	b.want(id, key.Namespace, asked)
	view := b.view(id)
	return &GroupSnapshot{
		GroupKey: key, Spec: spec.At(b.in.now), Scope: view.ID, view: view, ListBegun: view.ListBegun, ListErr: view.Err, NotFound: view.NotFound,
		ListInterval: view.Interval, ListsStretched: view.Stretched,
	}, nil
}

// countScopes counts the scopes in use and those that this snapshot adds.
func (b *builder) countScopes() int {
	added := map[scope.ID]struct{}{}
	for _, w := range b.found.wanted {
		if _, known := b.in.views[w.ID]; !known {
			added[w.ID] = struct{}{}
		}
	}
	return len(b.in.views) + len(added)
}

// want notes that a scope must be polled.
func (b *builder) want(id scope.ID, namespace string, at time.Time) {
	b.found.wanted = append(b.found.wanted, scope.Wanted{ID: id, Namespace: namespace, At: at})
}

// view is what is known of a scope; nothing if it is a new one.
func (b *builder) view(id scope.ID) *scope.View {
	if view, ok := b.in.views[id]; ok {
		return view
	}
	return &scope.View{ID: id}
}

// groupsOfCalls makes the groups that KEDA called for lately, of the runners with
// exactly their labels.
func (b *builder) groupsOfCalls() {
	keys := slices.SortedFunc(maps.Keys(b.in.called), GroupKey.compare)
	for _, key := range keys {
		call := b.in.called[key]
		group, err := b.group(key, call.spec, call.at)
		if err != nil {
			b.next.errs[key] = err
			continue
		}
		want := call.spec.RunnerLabels(b.Owner)
		for i := range group.view.Runners {
			if runner := &group.view.Runners[i]; scope.SameLabels(runner.Labels, want) {
				member := Member{Scope: group.Scope, Runner: runner}
				b.complete(&member, group.view)
				group.Members = append(group.Members, member)
			}
		}
		group.observe()
		b.next.groups[key] = group
	}
}
