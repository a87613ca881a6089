package fleet

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// rebuild joins all that is known into the next snapshot.
func (f *Fleet) rebuild() {
	now := f.config.Clock.Now()
	next := &snapshot{
		served: f.asked.Load(), groups: map[GroupKey]*Group{}, errs: map[GroupKey]error{},
		pods: map[string]podPlace{}, names: map[string]string{},
	}
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
	f.trackUse(next)
	next.scopes = f.scopesInUse(now)
	f.snapshot.Store(next)
	close(f.changed)
	f.changed = make(chan struct{})
}

// groupsOfKubernetes reads the groups from their ScaledJobs and joins each with
// its Jobs, their pods, and the runners named after those.
func (f *Fleet) groupsOfKubernetes(next *snapshot, live map[string]struct{}, now time.Time) {
	// Jobs first: a pod that they show is then among the pods, or has ended.
	jobs := map[string][]Job{}
	for _, job := range f.config.Kubernetes.Jobs() {
		jobs[job.ScaledJobUID] = append(jobs[job.ScaledJobUID], job)
		if job.Pod != nil {
			live[job.Pod.UID] = struct{}{}
		}
	}
	pods := f.config.Kubernetes.Pods()
	for _, pod := range pods {
		live[pod.UID] = struct{}{}
		next.names[RunnerName(pod.Name, pod.UID)] = f.telemetry.get(pod.UID).RunnerUUID
	}
	scaledJobs := slices.Clone(f.config.Kubernetes.ScaledJobs())
	slices.SortFunc(scaledJobs, func(a, b ScaledJob) int { // the older of two duplicates stays
		if c := a.CreatedOn.Compare(b.CreatedOn); c != 0 {
			return c
		}
		return cmpKey(a.GroupKey, b.GroupKey)
	})
	everywhere := f.everywhere()
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
		group.UID, group.Generation, group.Hold, group.Metadata = scaledJob.UID, scaledJob.Generation, scaledJob.Hold, scaledJob.Metadata
		f.join(group, slices.DeleteFunc(jobs[scaledJob.UID], func(job Job) bool { return job.Namespace != scaledJob.Namespace }), everywhere, now)
		for i, member := range group.Members {
			if member.Pod != nil {
				next.pods[member.Pod.UID] = podPlace{group: group.GroupKey, member: i}
			}
		}
		next.groups[group.GroupKey] = group
	}
	f.joinLoose(next, pods, everywhere, now)
}

// groupsOfCalls makes the groups that were called for lately, of the runners
// with exactly their labels.
func (f *Fleet) groupsOfCalls(next *snapshot, now time.Time) {
	f.mu.Lock()
	maps.DeleteFunc(f.called, func(_ GroupKey, c calledGroup) bool { return now.Sub(c.at) > f.config.IdleScope })
	called := maps.Clone(f.called)
	f.mu.Unlock()
	for key, call := range called {
		scope, err := f.admit(key, call.spec, call.at)
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
				member := Member{Scope: scope, Runner: &runner}
				f.complete(&member, view)
				group.Members = append(group.Members, member)
			}
		}
		group.observe(len(view.runners))
		next.groups[key] = group
	}
}

// observe makes the observation that the rules are applied to.
func (g *Group) observe(registered int) {
	g.Observation = observe(g.Members)
	for _, member := range g.Members {
		if member.Runner != nil && member.Scope == g.Scope {
			registered--
		}
	}
	g.Observation.OtherRegistered = registered
	g.Observation.Successors = g.successors()
}

// successors counts the capacity that came since a replacement began.
func (g *Group) successors() (n int) {
	for _, old := range g.Members {
		if old.State != Replaced {
			continue
		}
		for _, m := range g.Members {
			if _, before := old.replaced[m.Job.UID]; before {
				continue
			}
			switch m.State {
			case Pending, Starting, Idle, Busy, Unknown:
				n++
			}
		}
	}
	return n
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
	for _, m := range next.members() {
		if m.State != Idle && m.State != Replaced || m.Runner == nil {
			continue
		}
		since, ok := f.idle[m.Runner.UUID]
		if !ok {
			since = now
		}
		idle[m.Runner.UUID], m.IdleSince = since, since
	}
	f.idle = idle
}

// trackUse remembers which runners had a step, and the last of them, and counts
// those of ephemeral groups that took another. Called locked.
func (f *Fleet) trackUse(next *snapshot) {
	used := map[string]string{}
	for group, m := range next.members() {
		if m.Runner == nil {
			continue
		}
		last, known := f.used[m.Runner.UUID]
		step, taken := m.step()
		if !known && !taken {
			continue
		}
		m.Used = true
		if group != nil && group.Spec.Rules.Ephemeral && last != "" && step != "" && step != last {
			f.reused.Add(1)
		}
		used[m.Runner.UUID] = cmp.Or(step, last)
	}
	f.used = used
}

func cmpKey(a, b GroupKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
