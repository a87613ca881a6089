package scope

import (
	"context"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// FindRunner looks for our runner of that name in every scope; of two with one name
// it returns the one that PickOwn picks.
func (s *Set) FindRunner(name, reported string) (ID, bitbucket.Runner, bool) {
	for _, sc := range s.canonicalScopes() {
		var named []*bitbucket.Runner
		runners := sc.now().Runners
		for i := range runners {
			if runners[i].Name == name && s.config.ours(runners[i]) {
				named = append(named, &runners[i])
			}
		}
		if runner := PickOwn(named, reported); runner != nil {
			return sc.id, *runner, true
		}
	}
	return ID{}, bitbucket.Runner{}, false
}

// Register counts the scope's runners and creates one more if the limits of the
// group and of the scope leave a slot; decide gives the request while nobody else
// registers in the scope. Errors: decide's own, *AtMaxError, *FullError,
// ErrOutcomePending, ErrNotWritable, ErrUnknownScope, and the client's.
func (s *Set) Register(ctx context.Context, id ID, decide func() (SlotRequest, error)) (Registered, error) {
	sc, err := s.find(id)
	if err != nil {
		return Registered{}, err
	}
	return sc.register(ctx, decide)
}

// Disable lets a runner take no new step.
func (s *Set) Disable(ctx context.Context, id ID, runner bitbucket.Runner) error {
	sc, err := s.find(id)
	if err != nil {
		return err
	}
	return sc.disable(ctx, runner)
}

// Delete removes a runner; one that is gone already counts as removed.
func (s *Set) Delete(ctx context.Context, id ID, runner bitbucket.Runner) error {
	sc, err := s.find(id)
	if err != nil {
		return err
	}
	return sc.delete(ctx, runner)
}

// WhileUnregistered calls do while nobody registers a runner in the scope, unless
// one of that name exists already. An empty name is that of no runner.
func (s *Set) WhileUnregistered(ctx context.Context, id ID, name string, do func(context.Context) error) error {
	sc, err := s.find(id)
	if err != nil {
		return err
	}
	return sc.whileUnregistered(ctx, name, do)
}

// Recheck reads one runner live. What it shows replaces what the list shows of the
// runner, until a later list.
func (s *Set) Recheck(ctx context.Context, id ID, uuid string) (bitbucket.Runner, error) {
	sc, err := s.find(id)
	if err != nil {
		return bitbucket.Runner{}, err
	}
	return sc.recheck(ctx, uuid)
}

// Listed is a runner as the last list, or a later Recheck, shows it.
func (s *Set) Listed(id ID, uuid string) (Listed, bool) {
	sc, err := s.find(id)
	if err != nil {
		return Listed{}, false
	}
	return sc.now().Listed(uuid)
}

// Refresh asks for a list of the scope as soon as the least time between two
// allows, without waiting for it.
func (s *Set) Refresh(id ID) {
	if sc, err := s.find(id); err == nil {
		sc.refresh()
	}
}

// RefreshAll does so for every scope.
func (s *Set) RefreshAll() {
	for _, sc := range s.canonicalScopes() {
		sc.refresh()
	}
}

// DistrustSteps notes that the list of a scope begun at that time lacks a step that
// there is: until a list shows a step again, the absence of one proves nothing.
func (s *Set) DistrustSteps(id ID, listBegun time.Time) {
	if sc, err := s.find(id); err == nil {
		sc.distrustSteps(listBegun)
	}
}
