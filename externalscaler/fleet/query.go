package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

func compare(a, b string) int { return cmp.Compare(a, b) }

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
	f.called[key] = calledGroup{spec: spec, at: f.config.Clock.Now()}
	f.mu.Unlock()
	if !known || !sameSpec(last.spec, spec) {
		f.Changed()
	}
	for {
		wait := f.Wait()
		group, err := f.Group(key)
		if err == nil && sameSpec(group.Spec, spec) {
			return group, nil
		}
		if _, faulty := f.snapshot.Load().errs[key]; faulty {
			return nil, err
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

func sameSpec(a, b runnergroup.Group) bool { return maps.Equal(a.Metadata(), b.Metadata()) }

// Serves reports whether the ScaledJob of that name carries a trigger with the
// same settings, after waiting for the watch to bring it as long as ctx lasts.
func (f *Fleet) Serves(ctx context.Context, key GroupKey, spec runnergroup.Group) error {
	for {
		wait := f.Wait()
		s := f.snapshot.Load()
		if group, ok := s.groups[key]; ok && sameSpec(group.Spec, spec) {
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

// Find looks a runner of ours up by its name, in every scope.
func (f *Fleet) Find(name string) (*Scope, bitbucket.Runner, bool) {
	for _, scope := range f.snapshot.Load().scopes {
		for _, runner := range scope.Runners() {
			if runner.Name == name && f.config.Ours(runner) {
				return scope, runner, true
			}
		}
	}
	return nil, bitbucket.Runner{}, false
}

// Podless are the runners of ours that no known pod is named after, by scope.
// Each scope's list must be fresh; others are left out. Without Kubernetes
// there is none, since nothing can be known of pods.
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
			if _, known := s.names[runner.Name]; !known && f.config.Ours(runner) {
				podless[scope] = append(podless[scope], runner)
			}
		}
	}
	return podless
}

// Report takes what a pod's sidecar says of its runner.
func (f *Fleet) Report(podUID string, report Telemetry) {
	report.Since = f.config.Clock.Now()
	f.telemetry.report(podUID, report)
	f.Changed()
}

// Detach says that a pod's sidecar can no longer be heard.
func (f *Fleet) Detach(podUID string) {
	f.telemetry.detach(podUID)
	f.Changed()
}

// Tell says that a pod was told to end: it counts for nothing from now on.
func (f *Fleet) Tell(podUID string) {
	f.telemetry.tell(podUID)
	f.Changed()
}

// Owner is the label that marks this installation's runners.
func (f *Fleet) Owner() string { return f.config.Owner }
