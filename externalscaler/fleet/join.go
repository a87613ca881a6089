package fleet

import (
	"iter"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// snapshot is everything as of one moment.
type snapshot struct {
	// served is how often a new snapshot had been asked for when this one was begun.
	served int64
	groups map[GroupKey]*Group
	errs   map[GroupKey]error
	scopes []*Scope
	// pods are the places of the groups' members by their pods' UIDs.
	pods map[string]podPlace
	// loose are the pods that no group is left for, though their runners are.
	loose []Member
	// names are those of the runners of all known pods, with the UUID of the runner
	// that the pod's sidecar reports; empty where it does not.
	names map[string]string
}

type podPlace struct {
	group  GroupKey
	member int
}

// members are those of all groups, and the loose ones, whose group is nil.
func (s *snapshot) members() iter.Seq2[*Group, *Member] {
	return func(yield func(*Group, *Member) bool) {
		for _, group := range s.groups {
			for i := range group.Members {
				if !yield(group, &group.Members[i]) {
					return
				}
			}
		}
		for i := range s.loose {
			if !yield(nil, &s.loose[i]) {
				return
			}
		}
	}
}

// found is a runner of ours with the scope that lists it.
type found struct {
	scope  *Scope
	view   scopeView
	runner *bitbucket.Runner
}

// everywhere finds runners of ours by name in all scopes that are looked at.
func (f *Fleet) everywhere() map[string]found {
	known := map[string]found{}
	for _, scope := range f.snapshot.Load().scopes {
		view := scope.view()
		for name, named := range f.byName(view) {
			known[name] = found{scope: scope, view: view, runner: own(named, "")}
		}
	}
	return known
}

// join fills in a group's members: one for each unfinished Job.
func (f *Fleet) join(group *Group, jobs []Job, everywhere map[string]found, now time.Time) {
	view := group.Scope.view()
	byName := f.byName(view)
	group.ListBegun = view.begun
	for i := range jobs {
		member := Member{Job: &jobs[i], Pod: jobs[i].Pod, Scope: group.Scope}
		member.Outdated = jobs[i].Generation != "" && group.Generation != "" && jobs[i].Generation != group.Generation
		where := view
		if member.Pod != nil {
			member.Name = RunnerName(member.Pod.Name, member.Pod.UID)
			known := f.telemetry.get(member.Pod.UID)
			member.Runner = own(byName[member.Name], known.RunnerUUID)
			if member.Runner == nil {
				where = f.joinElsewhere(&member, known.Place, everywhere, view, now)
			}
			member.Outdated = member.Outdated || member.Runner != nil && !sameLabels(member.Runner.Labels, group.Spec.RunnerLabels(f.config.Owner))
		}
		f.complete(&member, where)
		group.Members = append(group.Members, member)
	}
	group.observe(len(view.runners))
}

// joinElsewhere looks for a member's runner in the other scopes, and in the one
// that its sidecar names: its ScaledJob may have been given another since.
func (f *Fleet) joinElsewhere(m *Member, place Place, everywhere map[string]found, view scopeView, now time.Time) scopeView {
	if other, ok := everywhere[m.Name]; ok && !sameScope(other.scope, m.Scope) {
		m.Scope, m.Runner, m.Outdated = other.scope, other.runner, true
		return other.view
	}
	if resolved := m.Scope.Resolved(); place == (Place{}) || resolved.Workspace == "" || resolved == place.Scope {
		return view
	}
	scope := f.placed(m.Pod, place, now)
	if scope == nil {
		return view
	}
	elsewhere := scope.view()
	runner := own(f.byName(elsewhere)[m.Name], "")
	if runner == nil {
		return view
	}
	m.Scope, m.Runner, m.Outdated = scope, runner, true
	return elsewhere
}

// joinLoose collects the pods of ours that belong to no group any more: their
// Jobs or ScaledJobs were deleted, and their runners may still have a step.
func (f *Fleet) joinLoose(next *snapshot, pods []Pod, everywhere map[string]found, now time.Time) {
	for i := range pods {
		if _, ok := next.pods[pods[i].UID]; ok {
			continue
		}
		member := Member{Pod: &pods[i], Name: RunnerName(pods[i].Name, pods[i].UID)}
		listed := everywhere[member.Name]
		member.Scope, member.Runner = listed.scope, listed.runner
		if member.Scope == nil {
			member.Scope = f.placed(&pods[i], f.telemetry.get(pods[i].UID).Place, now)
		}
		if member.Scope == nil {
			continue
		}
		view := member.Scope.view()
		if member.Runner == nil {
			member.Runner = own(f.byName(view)[member.Name], "")
		}
		f.complete(&member, view)
		next.loose = append(next.loose, member)
	}
}

// placed is the scope in which a sidecar says that its runner is; nil where that
// cannot be. A place costs Bitbucket one list: a scope that does not hold the
// pod's runner is not asked for again on its word.
func (f *Fleet) placed(pod *Pod, place Place, now time.Time) *Scope {
	if place == (Place{}) {
		return nil
	}
	key := GroupKey{Namespace: pod.Namespace, Name: pod.Name}
	spec := runnergroup.Group{Credentials: place.Credentials, Workspace: place.Scope.Workspace, Repository: place.Scope.Repository}
	scope, err := f.scope(key, spec, time.Time{})
	if err != nil {
		return nil
	}
	view := scope.view()
	if view.begun.IsZero() || len(f.byName(view)[RunnerName(pod.Name, pod.UID)]) > 0 {
		scope.use(scope.using(), now)
	}
	return scope
}

// byName are the runners of ours by their names.
func (f *Fleet) byName(view scopeView) map[string][]*bitbucket.Runner {
	byName := make(map[string][]*bitbucket.Runner, len(view.runners))
	for i := range view.runners {
		if f.config.Ours(view.runners[i]) {
			byName[view.runners[i].Name] = append(byName[view.runners[i].Name], &view.runners[i])
		}
	}
	return byName
}

// own picks a pod's runner among those of its name. A registration whose answer
// was lost may leave a second one: the pod's is the one that its sidecar reports,
// and otherwise the one that has connected.
func own(named []*bitbucket.Runner, reported string) *bitbucket.Runner {
	var found *bitbucket.Runner
	for _, runner := range named {
		switch {
		case runner.UUID == reported:
			return runner
		case found == nil || found.State.Status == bitbucket.StatusUnregistered:
			found = runner
		}
	}
	return found
}

// complete fills in what follows from a member's pod and runner.
func (f *Fleet) complete(m *Member, view scopeView) {
	if m.Pod != nil {
		known := f.telemetry.get(m.Pod.UID)
		m.Telemetry, m.ToldSince, m.AskedLast, m.replaced = known.Telemetry, known.told, known.asked, known.replaced
	}
	serverNow := view.serverDate.Add(f.config.Clock.Since(view.begun))
	if m.Runner != nil {
		m.Name = m.Runner.Name
		m.Age = serverNow.Sub(m.Runner.CreatedOn)
	}
	m.State = f.config.classify(m, view.stepSeen, view.begun, serverNow)
	if m.contradicts(view.begun) {
		m.Scope.doubtSteps(view.begun)
	}
}

// sureAfter is how long a runner has had a step for sure until a list must show it.
const sureAfter = 5 * time.Second

// contradicts reports whether the list lacks a step that the runner's own process
// has had since before it was begun.
func (m *Member) contradicts(listBegun time.Time) bool {
	report := m.Telemetry
	return m.Runner != nil && m.Runner.State.Step == nil && report.Attached && report.Activity == ActivityBusy &&
		connected(m.Runner.State.Status) && listBegun.After(report.Since.Add(sureAfter))
}

// connected is false for the states in which Bitbucket shows no step, whatever the
// runner does.
func connected(status bitbucket.Status) bool {
	return status != bitbucket.StatusUnregistered && status != bitbucket.StatusOffline
}

// step is the step that a member's runner has or had last; false where none is
// known. A step without a UUID is one all the same.
func (m *Member) step() (uuid string, taken bool) {
	switch report := m.Telemetry; {
	case report.Activity == ActivityBusy:
		return report.StepUUID, true
	case m.Runner.State.Step != nil:
		return m.Runner.State.Step.UUID, true
	default:
		return report.LastStep, report.LastStep != "" || report.StepsBegun > 0
	}
}
