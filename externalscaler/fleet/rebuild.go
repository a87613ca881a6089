package fleet

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// rebuild joins all that is known into the next snapshot.
func (f *Fleet) rebuild() {
	now := f.config.Clock.Now()
	next := &snapshot{groups: map[GroupKey]*Group{}, errs: map[GroupKey]error{}, pods: map[string]podPlace{}, names: map[string]string{}}
	live := map[string]struct{}{}
	if f.config.Kubernetes != nil {
		f.groupsOfKubernetes(next, live, now)
	} else {
		f.groupsOfCalls(next, now)
	}
	f.setAside(next)
	f.telemetry.keep(live)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.trackIdle(next, now)
	next.scopes = f.scopesInUse(now)
	f.snapshot.Store(next)
	close(f.changed)
	f.changed = make(chan struct{})
}

// groupsOfKubernetes reads the groups from their ScaledJobs and joins each with
// its Jobs, their pods, and the runners named after those.
func (f *Fleet) groupsOfKubernetes(next *snapshot, live map[string]struct{}, now time.Time) {
	jobs := map[string][]Job{}
	for _, job := range f.config.Kubernetes.Jobs() {
		jobs[job.ScaledJobUID] = append(jobs[job.ScaledJobUID], job)
		if job.Pod != nil {
			live[job.Pod.UID] = struct{}{}
			report, _ := f.telemetry.get(job.Pod.UID)
			next.names[RunnerName(job.Pod.Name, job.Pod.UID)] = report.RunnerUUID
		}
	}
	scaledJobs := slices.Clone(f.config.Kubernetes.ScaledJobs())
	slices.SortFunc(scaledJobs, func(a, b ScaledJob) int { // the older of two duplicates stays
		if c := a.CreatedOn.Compare(b.CreatedOn); c != 0 {
			return c
		}
		return cmpKey(a.GroupKey, b.GroupKey)
	})
	var accepted []*Group
	for _, scaledJob := range scaledJobs {
		group, err := f.group(scaledJob.GroupKey, scaledJob.Metadata, now)
		if err == nil {
			for _, other := range accepted {
				if sameScope(other.Scope, group.Scope) && other.Spec.SameRunners(group.Spec) {
					err = &DuplicateError{Other: other.GroupKey}
				}
			}
		}
		if err != nil {
			next.errs[scaledJob.GroupKey] = err
			continue
		}
		accepted = append(accepted, group)
		group.UID, group.Hold = scaledJob.UID, scaledJob.Hold
		view := group.Scope.view()
		f.join(group, jobs[scaledJob.UID], view)
		for i, member := range group.Members {
			if member.Job.Pod != nil {
				next.pods[member.Job.Pod.UID] = podPlace{group: group.GroupKey, member: i}
			}
		}
		next.groups[group.GroupKey] = group
	}
}

// groupsOfCalls makes the groups that were called for lately, of the runners
// with exactly their labels.
func (f *Fleet) groupsOfCalls(next *snapshot, now time.Time) {
	f.mu.Lock()
	maps.DeleteFunc(f.called, func(_ GroupKey, c calledGroup) bool { return now.Sub(c.at) > f.config.IdleScope })
	called := maps.Clone(f.called)
	f.mu.Unlock()
	for key, call := range called {
		scope, err := f.scope(key, call.spec, call.at)
		if err != nil {
			next.errs[key] = err
			continue
		}
		group := &Group{GroupKey: key, Spec: call.spec, Scope: scope}
		view := scope.view()
		group.ListBegun = view.begun
		want := call.spec.RunnerLabels(f.config.Owner)
		for _, runner := range view.runners {
			if sameLabels(runner.Labels, want) {
				group.Members = append(group.Members, f.member(nil, &runner, view))
			}
		}
		f.count(group, view)
		next.groups[key] = group
	}
}

// join fills in a group's members: one for each unfinished Job.
func (f *Fleet) join(group *Group, jobs []Job, view scopeView) {
	byName := make(map[string][]*bitbucket.Runner, len(view.runners))
	for i := range view.runners {
		if f.config.Ours(view.runners[i]) {
			byName[view.runners[i].Name] = append(byName[view.runners[i].Name], &view.runners[i])
		}
	}
	group.ListBegun = view.begun
	for i := range jobs {
		var runner *bitbucket.Runner
		if pod := jobs[i].Pod; pod != nil {
			report, _ := f.telemetry.get(pod.UID)
			runner = own(byName[RunnerName(pod.Name, pod.UID)], report.RunnerUUID)
		}
		group.Members = append(group.Members, f.member(&jobs[i], runner, view))
	}
	f.count(group, view)
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

func (f *Fleet) member(job *Job, runner *bitbucket.Runner, view scopeView) Member {
	m := Member{Job: job, Runner: runner}
	var told bool
	if job != nil && job.Pod != nil {
		m.Name = RunnerName(job.Pod.Name, job.Pod.UID)
		m.Telemetry, told = f.telemetry.get(job.Pod.UID)
	}
	serverNow := view.serverDate.Add(f.config.Clock.Since(view.begun))
	if runner != nil {
		m.Name = runner.Name
		m.Age = serverNow.Sub(runner.CreatedOn)
	}
	m.State = classify(&m, told, view.stepSeen, view.begun, serverNow)
	return m
}

// count makes the observation that the rules are applied to.
func (f *Fleet) count(group *Group, view scopeView) {
	group.Observation = observe(group.Members)
	registered := 0
	for _, member := range group.Members {
		if member.Runner != nil {
			registered++
		}
	}
	group.Observation.OtherRegistered = len(view.runners) - registered
}

// setAside takes the unfilled minimum of each group off the others' room.
func (f *Fleet) setAside(next *snapshot) {
	unfilled := map[*Scope]int{}
	own := map[*Group]int{}
	for _, group := range next.groups {
		own[group] = max(0, group.Spec.Rules.Min-group.Observation.Capacity())
		unfilled[group.Scope] += own[group]
	}
	for _, group := range next.groups {
		group.Observation.OtherUnfilledMin = unfilled[group.Scope] - own[group]
	}
}

// trackIdle remembers since when each runner has been idle. Called locked.
func (f *Fleet) trackIdle(next *snapshot, now time.Time) {
	idle := map[string]time.Time{}
	for _, group := range next.groups {
		for i := range group.Members {
			m := &group.Members[i]
			if m.State != Idle || m.Runner == nil {
				continue
			}
			since, ok := f.idle[m.Runner.UUID]
			if !ok {
				since = now
			}
			idle[m.Runner.UUID], m.IdleSince = since, since
		}
	}
	f.idle = idle
}

func cmpKey(a, b GroupKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
