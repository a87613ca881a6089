package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// groupsPerScope bounds, with Config.MaxScopes, the groups known from calls alone.
const groupsPerScope = 20

// Group returns a group's snapshot if it is fresh enough to act on. Errors:
// ErrUnknownGroup, scope.ErrNoList, a *runnergroup.InvalidError, a
// *DuplicateError, or why the credentials set cannot be used.
func (f *Fleet) Group(key GroupKey) (*GroupSnapshot, error) {
	s := f.current.Load()
	if err, ok := s.errs[key]; ok {
		return nil, err
	}
	group, ok := s.groups[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, ErrUnknownGroup)
	}
	return group, f.fresh(group)
}

func (f *Fleet) fresh(group *GroupSnapshot) error {
	if !group.ListBegun.IsZero() && f.config.Clock.Since(group.ListBegun) <= f.config.staleAfter(group.ListInterval) {
		return nil
	}
	err := fmt.Errorf("scope %s: %w", group.Scope, scope.ErrNoList)
	if group.ListErr != nil {
		err = fmt.Errorf("%w: %w", err, group.ListErr)
	}
	return err
}

// Groups are the groups whose metadata is valid, in the order of their names;
// their lists may be old: see Group.
func (f *Fleet) Groups() []*GroupSnapshot { return f.current.Load().sorted() }

func (s *snapshot) sorted() []*GroupSnapshot {
	groups := slices.Collect(maps.Values(s.groups))
	slices.SortFunc(groups, func(a, b *GroupSnapshot) int { return a.compare(b.GroupKey) })
	return groups
}

// Observed are all groups as of one moment: those whose metadata is valid, in the
// order of their names, and those without a snapshot, and why.
func (f *Fleet) Observed() (valid []*GroupSnapshot, faulty map[GroupKey]error) {
	s := f.current.Load()
	return s.sorted(), maps.Clone(s.errs)
}

// Faulty are the groups without a snapshot, and why.
func (f *Fleet) Faulty() map[GroupKey]error { return maps.Clone(f.current.Load().errs) }

// Call makes a group known from a call by KEDA, if there is no Kubernetes to read
// it from, and waits for its first list as long as ctx lasts.
func (f *Fleet) Call(ctx context.Context, key GroupKey, spec runnergroup.Group) (*GroupSnapshot, error) {
	f.mu.Lock()
	last, known := f.called[key]
	if most := groupsPerScope * f.config.MaxScopes; !known && len(f.called) >= most {
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
		if fault, faulty := f.current.Load().errs[key]; faulty { // of this snapshot, which may be a newer one
			return nil, fault
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("%s: %w", key, scope.ErrNoList)
			}
			return nil, err
		case <-wait:
		}
	}
}

// Known reports whether there is a group of that name, valid or not.
func (f *Fleet) Known(key GroupKey) bool {
	s := f.current.Load()
	_, valid := s.groups[key]
	_, faulty := s.errs[key]
	return valid || faulty
}

// Carries reports whether the ScaledJob of that name carries exactly this metadata,
// and it is valid.
func (f *Fleet) Carries(key GroupKey, metadata map[string]string) bool {
	group, ok := f.current.Load().groups[key]
	return ok && group.Metadata != nil && maps.Equal(group.Metadata, metadata)
}

// Serves reports whether the ScaledJob of that name carries a trigger with the
// same settings, after waiting for the watch to bring it as long as ctx lasts.
func (f *Fleet) Serves(ctx context.Context, key GroupKey, spec runnergroup.Group) error {
	if group, ok := f.current.Load().groups[key]; ok && group.Spec.Equal(spec) {
		return nil // nearly always, and then without a lock
	}
	for {
		wait := f.Wait()
		s := f.current.Load()
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
func (f *Fleet) Member(podUID string) (*GroupSnapshot, Member, bool) {
	s := f.current.Load()
	at, ok := s.pods[podUID]
	if !ok {
		return nil, Member{}, false
	}
	group := s.groups[at.group]
	return group, group.Members[at.member], true
}

// HasPod reports whether a pod is one of a runner Job, also of one that was deleted.
func (f *Fleet) HasPod(podUID string) bool {
	_, ok := f.current.Load().live[podUID]
	return ok
}

// Podless is one of our runners that no known pod is named after, or that is not
// the own runner of its pod.
type Podless struct {
	Scope scope.ID
	// ListBegun is when the list of Scope was begun that shows it.
	ListBegun time.Time
	Runner    bitbucket.Runner
	// Listed is Runner without what was written since the list.
	Listed scope.Listed
	// Twin is true if the runner bears the name of a pod that runs another: the
	// trace of a registration whose answer was lost. It was never handed out.
	Twin bool
}

// Podless are our runners without a pod, of all scopes whose list is fresh. Without
// Kubernetes there is none, because nothing can be known of pods.
func (f *Fleet) Podless() []Podless {
	if f.config.Kubernetes == nil {
		return nil
	}
	s := f.current.Load()
	var podless []Podless
	for id, view := range s.views {
		if id != view.ID || view.ListBegun.IsZero() || f.config.Clock.Since(view.ListBegun) > f.config.staleAfter(view.Interval) {
			continue // an alias, or nothing current
		}
		for _, runner := range view.Runners {
			pod, known := s.names[runner.Name]
			own := s.reports.of(pod).RunnerUUID
			twin := own != "" && own != runner.UUID && runner.State.Status == bitbucket.StatusUnregistered
			if !scope.Owned(runner, f.config.Owner) || known && !twin {
				continue
			}
			listed, _ := view.Listed(runner.UUID)
			podless = append(podless, Podless{Scope: id, ListBegun: view.ListBegun, Runner: runner, Listed: listed, Twin: twin})
		}
	}
	return podless
}

// OrphanedPods are the pods of this installation that belong to no group any more;
// their State is that of their runners.
func (f *Fleet) OrphanedPods() []Member { return f.current.Load().orphaned }

// Reused counts the runners of ephemeral groups that took another step, since the
// start of this process.
func (f *Fleet) Reused() int64 { return f.reused.Load() }
