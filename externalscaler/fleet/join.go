package fleet

import (
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// join fills in a group's members: one for each unfinished Job.
func (b *builder) join(group *GroupSnapshot, jobs []Job) {
	labels := group.Spec.RunnerLabels(b.Owner)
	group.Members = make([]Member, 0, len(jobs))
	for i := range jobs {
		member := Member{Job: &jobs[i], Pod: jobs[i].Pod, Scope: group.Scope}
		member.Outdated = jobs[i].Generation != "" && group.Generation != "" && jobs[i].Generation != group.Generation
		view := group.view
		if member.Pod != nil {
			member.Name = b.next.live[member.Pod.UID]
			report := b.in.reports.of(member.Pod.UID)
			member.Runner = b.runner(view, member.Name, report.RunnerUUID)
			if member.Runner == nil {
				view = b.joinElsewhere(&member, view, report.Scope)
			}
			member.Outdated = member.Outdated || member.Runner != nil && !scope.SameLabels(member.Runner.Labels, labels)
		}
		b.complete(&member, view)
		group.Members = append(group.Members, member)
	}
}

// keep gives a group the members of the snapshot before, if its runners have reported nothing since.
// It returns false if they must be joined again.
func (b *builder) keep(group *GroupSnapshot) bool {
	last := b.before[group.GroupKey]
	if last == nil {
		return false
	}
	for i := range last.Members {
		m := &last.Members[i]
		if m.Pod == nil {
			continue
		}
		elsewhere := m.Runner == nil || m.Scope != group.Scope // its scope may have to be asked for
		if elsewhere || b.in.reports[m.Pod.UID] != b.in.history.joined.reports[m.Pod.UID] {
			return false
		}
	}
	group.Members, group.kept = last.Members, true
	return true
}

// retain puts the group of the snapshot before in the place of one that says the same: a reader that has
// seen that one need not look again.
func (b *builder) retain() {
	for key, group := range b.next.groups {
		if last := b.before[key]; group.kept && group.Observation == last.Observation && len(group.Waiting)+len(last.Waiting) == 0 {
			b.next.groups[key] = last
		}
	}
}

// joinElsewhere looks for a member's runner in the other scopes, and in the one
// that its sidecar names: its ScaledJob may have been given another since.
func (b *builder) joinElsewhere(m *Member, view *scope.View, reported scope.ID) *scope.View {
	if other, runner := b.anywhere(m.Name); runner != nil && !other.Same(view) {
		m.Scope, m.Runner, m.Outdated = other.ID, runner, true
		return other
	}
	if reported == (scope.ID{}) || view.Resolved.Workspace == "" || view.Resolved == reported.Scope {
		return view
	}
	other := b.reportedView(m.Pod, reported)
	if other == nil {
		return view
	}
	runner := b.runner(other, m.Name, "")
	if runner == nil {
		return view
	}
	m.Scope, m.Runner, m.Outdated = other.ID, runner, true
	return other
}

// joinOrphaned collects the pods of this installation that belong to no group any
// more: their Jobs or ScaledJobs were deleted, and their runners may still have a
// step.
func (b *builder) joinOrphaned() {
	for i := range b.in.pods {
		pod := &b.in.pods[i]
		if _, ok := b.next.pods[pod.UID]; ok {
			continue
		}
		member := Member{Pod: pod, Name: b.next.live[pod.UID]}
		view, runner := b.anywhere(member.Name)
		if runner == nil {
			if view = b.reportedView(pod, b.in.reports.of(pod.UID).Scope); view == nil {
				continue
			}
			runner = b.runner(view, member.Name, "")
		}
		member.Scope, member.Runner = view.ID, runner
		b.complete(&member, view)
		b.next.orphaned = append(b.next.orphaned, member)
	}
}

// anywhere finds our runner of that name in all scopes in use.
func (b *builder) anywhere(name string) (*scope.View, *bitbucket.Runner) {
	for _, view := range b.in.views {
		if runner := b.runner(view, name, ""); runner != nil {
			return view, runner
		}
	}
	return nil, nil
}

// reportedView is what is known of the scope in which a sidecar says that its
// runner is; nil if that cannot be. A report costs Bitbucket one list: a scope that
// does not hold the pod's runner is not asked for again on its word, and one that its
// namespace may not use is asked for only if it is in use, as one in which runners are
// left.
func (b *builder) reportedView(pod *Pod, reported scope.ID) *scope.View {
	if reported == (scope.ID{}) {
		return nil
	}
	if _, used := b.in.views[reported]; !used && b.MayPoll(pod.Namespace, reported) != nil {
		return nil
	}
	view := b.view(reported)
	if view.ListBegun.IsZero() || b.runner(view, b.next.live[pod.UID], "") != nil {
		b.want(reported, pod.Namespace, b.in.now)
	}
	return view
}

// runner finds a pod's own runner in a scope by its name; nil if there is none.
func (b *builder) runner(view *scope.View, name, reported string) *bitbucket.Runner {
	ours, indexed := b.ours[view.ID]
	if !indexed {
		ours = make(map[string][]*bitbucket.Runner, len(view.Runners))
		for i := range view.Runners {
			if runner := &view.Runners[i]; scope.Owned(*runner, b.Owner) {
				ours[runner.Name] = append(ours[runner.Name], runner)
			}
		}
		b.ours[view.ID] = ours
	}
	return scope.PickOwn(ours[name], reported)
}

// complete fills in what follows from a member's pod and runner.
func (b *builder) complete(m *Member, view *scope.View) {
	if m.Pod != nil {
		known := b.in.reports.of(m.Pod.UID)
		m.Telemetry, m.StoppingSince, m.AskedLast, m.Refused, m.replaced = known.Telemetry, known.stopping, known.asked, known.refused, known.replaced
	}
	m.ListBegun = view.ListBegun
	serverNow := view.ServerDate.Add(b.in.now.Sub(view.ListBegun))
	if m.Runner != nil {
		m.Name = m.Runner.Name
		m.Age = serverNow.Sub(m.Runner.CreatedOn)
		m.Listed, m.IsListed = view.Listed(m.Runner.UUID)
	}
	m.State = b.Classify(m, view.StepSeen, view.ListBegun, serverNow)
	if m.contradicts(view.ListBegun) {
		b.found.distrusted = append(b.found.distrusted, distrusted{ID: m.Scope, listBegun: view.ListBegun})
	}
}

// stepShownAfter is how long a runner has had a step for sure until a list must
// show it.
const stepShownAfter = 5 * time.Second

// contradicts reports whether the list lacks a step that the runner's own process
// has had since before it was begun.
func (m *Member) contradicts(listBegun time.Time) bool {
	report := m.Telemetry
	return m.Runner != nil && m.Runner.State.Step == nil && report.Attached && report.Activity == ActivityBusy &&
		connected(m.Runner.State.Status) && listBegun.After(report.Since.Add(stepShownAfter))
}

// connected is false for the states in which Bitbucket shows no step, whatever the
// runner does.
func connected(status bitbucket.Status) bool {
	return !slices.Contains([]bitbucket.Status{bitbucket.StatusUnregistered, bitbucket.StatusOffline}, status)
}
