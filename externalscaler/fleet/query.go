package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// groupsAScope bounds, with Config.MaxScopes, the groups known from calls alone.
const groupsAScope = 20

// Group gives a group's snapshot if it is fresh enough to act on. Errors:
// ErrUnknownGroup, ErrNoList, a *runnergroup.InvalidError, a *DuplicateError,
// or why the credentials set cannot be used.
func (f *Fleet) Group(key GroupKey) (*Group, error) {
	s := f.snapshot.Load()
	if err, ok := s.errs[key]; ok {
		return nil, err
	}
	group, ok := s.groups[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, ErrUnknownGroup)
	}
	return group, f.fresh(group)
}

func (f *Fleet) fresh(group *Group) error {
	if !group.ListBegun.IsZero() {
		if age := f.config.Clock.Since(group.ListBegun); age <= f.config.staleAfter() {
			return nil
		}
	}
	err := fmt.Errorf("scope %s: %w", group.Scope.Written, ErrNoList)
	if cause := group.Scope.view().err; cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// Groups are the groups whose metadata is sound, in the order of their names;
// their lists may be old: see Group.
func (f *Fleet) Groups() []*Group {
	groups := slices.Collect(maps.Values(f.snapshot.Load().groups))
	slices.SortFunc(groups, func(a, b *Group) int { return cmpKey(a.GroupKey, b.GroupKey) })
	return groups
}

// Faulty are the groups without a snapshot, and why.
func (f *Fleet) Faulty() map[GroupKey]error { return maps.Clone(f.snapshot.Load().errs) }

// Call makes a group known from a call of KEDA's, where there is no Kubernetes
// to read it from, and waits for its first list as long as ctx lasts.
func (f *Fleet) Call(ctx context.Context, key GroupKey, spec runnergroup.Group) (*Group, error) {
	f.mu.Lock()
	last, known := f.called[key]
	if most := groupsAScope * f.config.MaxScopes; !known && len(f.called) >= most {
		f.mu.Unlock()
		return nil, fmt.Errorf("%d groups are served already: %w", most, ErrTooManyScopes)
	}
	f.called[key] = calledGroup{spec: spec, at: f.config.Clock.Now()}
	f.mu.Unlock()
	if !known || !last.spec.Equal(spec) {
		f.Changed()
	}
	for {
		wait := f.Wait()
		group, err := f.Group(key)
		if err == nil && group.Spec.Equal(spec) {
			return group, nil
		}
		if fault, faulty := f.snapshot.Load().errs[key]; faulty { // of this snapshot, which may be a newer one
			return nil, fault
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("%s: %w", key, ErrNoList)
			}
			return nil, err
		case <-wait:
		}
	}
}

// Known reports whether there is a group of that name, sound or not.
func (f *Fleet) Known(key GroupKey) bool {
	s := f.snapshot.Load()
	_, sound := s.groups[key]
	_, faulty := s.errs[key]
	return sound || faulty
}

// Carries reports whether the ScaledJob of that name carries exactly this metadata,
// and it is sound.
func (f *Fleet) Carries(key GroupKey, metadata map[string]string) bool {
	group, ok := f.snapshot.Load().groups[key]
	return ok && group.Metadata != nil && maps.Equal(group.Metadata, metadata)
}

// Serves reports whether the ScaledJob of that name carries a trigger with the
// same settings, after waiting for the watch to bring it as long as ctx lasts.
func (f *Fleet) Serves(ctx context.Context, key GroupKey, spec runnergroup.Group) error {
	if group, ok := f.snapshot.Load().groups[key]; ok && group.Spec.Equal(spec) {
		return nil // nearly always, and then without a lock
	}
	for {
		wait := f.Wait()
		s := f.snapshot.Load()
		if group, ok := s.groups[key]; ok && group.Spec.Equal(spec) {
			return nil
		}
		if err, ok := s.errs[key]; ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: no ScaledJob of that name carries this metadata: %w", key, ErrUnknownGroup)
		case <-wait:
		}
	}
}

// Member finds the group and the Job of a pod.
func (f *Fleet) Member(podUID string) (*Group, Member, bool) {
	s := f.snapshot.Load()
	place, ok := s.pods[podUID]
	if !ok {
		return nil, Member{}, false
	}
	group := s.groups[place.group]
	return group, group.Members[place.member], true
}

// Find looks a pod's runner up by its name, in every scope; of two with one name
// (see own) the one with this UUID, if it is not empty.
func (f *Fleet) Find(name, uuid string) (*Scope, bitbucket.Runner, bool) {
	for _, scope := range f.snapshot.Load().scopes {
		var named []*bitbucket.Runner
		for _, runner := range scope.Runners() {
			if runner.Name == name && f.config.Ours(runner) {
				named = append(named, &runner)
			}
		}
		if runner := own(named, uuid); runner != nil {
			return scope, *runner, true
		}
	}
	return nil, bitbucket.Runner{}, false
}

// Podless are the runners of ours that no known pod is named after, and those
// that are not their pod's own (see Twin), by scope. Each scope's list must be
// fresh; others are left out. Without Kubernetes there is none, since nothing can
// be known of pods.
func (f *Fleet) Podless() map[*Scope][]bitbucket.Runner {
	if f.config.Kubernetes == nil {
		return nil
	}
	s := f.snapshot.Load()
	podless := map[*Scope][]bitbucket.Runner{}
	for _, scope := range s.scopes {
		view := scope.view()
		if view.begun.IsZero() || f.config.Clock.Since(view.begun) > f.config.staleAfter() {
			continue
		}
		for _, runner := range view.runners {
			if _, known := s.names[runner.Name]; f.config.Ours(runner) && (!known || f.Twin(runner)) {
				podless[scope] = append(podless[scope], runner)
			}
		}
	}
	return podless
}

// Twin reports whether a runner bears the name of a pod that runs another: the
// trace of a registration whose answer was lost. It was never handed out.
func (f *Fleet) Twin(runner bitbucket.Runner) bool {
	own := f.snapshot.Load().names[runner.Name]
	return own != "" && own != runner.UUID && runner.State.Status == bitbucket.StatusUnregistered
}

// Loose are the pods of ours that no group is left for; their State is that of
// their runners.
func (f *Fleet) Loose() []Member { return f.snapshot.Load().loose }

// Reused counts the runners of ephemeral groups that took another step, since the
// start of this process.
func (f *Fleet) Reused() int64 { return f.reused.Load() }

// Owner is the label that marks this installation's runners.
func (f *Fleet) Owner() string { return f.config.Owner }

// Report takes what a pod's sidecar says of its runner.
func (f *Fleet) Report(podUID string, report Telemetry) {
	report.Since = f.config.Clock.Now()
	f.telemetry.report(podUID, report)
	f.Changed()
}

// Detach says that a pod's sidecar can no longer be heard.
func (f *Fleet) Detach(podUID string) {
	f.telemetry.detach(podUID, f.config.Clock.Now())
	f.Changed()
}

// Ask says that a pod asks for its registration.
func (f *Fleet) Ask(podUID string) { f.telemetry.ask(podUID, f.config.Clock.Now()) }

// Tell says that a pod was told to end: it counts for nothing from now on.
func (f *Fleet) Tell(podUID string) {
	f.telemetry.tell(podUID, f.config.Clock.Now())
	f.Changed()
}

// Told reports whether a pod was told to end.
func (f *Fleet) Told(podUID string) bool { return !f.telemetry.get(podUID).told.IsZero() }

// Replace says that a pod's runner ends once its successor is online.
func (f *Fleet) Replace(podUID string) {
	group, _, ok := f.Member(podUID)
	if !ok {
		return
	}
	jobs := map[string]struct{}{}
	for _, m := range group.Members {
		jobs[m.Job.UID] = struct{}{}
	}
	f.telemetry.replace(podUID, jobs)
	f.Changed()
}

// Retain takes Replace back.
func (f *Fleet) Retain(podUID string) {
	f.telemetry.replace(podUID, nil)
	f.Changed()
}
