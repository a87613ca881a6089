package scope

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// SlotRequest asks for a slot under the limits of a group and of its scope, and
// for a runner in it.
type SlotRequest struct {
	Runner bitbucket.NewRunner
	// Max is how many live runners the group may have.
	Max int
	// Live reports whether a runner of that name is one of the group whose process
	// may run.
	Live func(name string) bool
	// Replaceable returns an error unless an existing runner of the same name may be
	// deleted first.
	Replaceable func(existing bitbucket.Runner) error
	// AtMax is called, while no other runner of the scope is registered, if the
	// group has no slot left.
	AtMax func()
}

// Registered is what a registration made.
type Registered struct {
	// Runner, with its secret.
	Runner bitbucket.Runner
	// Scope by UUIDs.
	Scope bitbucket.Scope
	// Replaced is true if a runner of the same name was deleted first.
	Replaced bool
}

// AtMaxError says that a group has as many live runners as it may.
type AtMaxError struct{ Live, Max int }

func (e *AtMaxError) Error() string {
	return fmt.Sprintf("%d live runners already, max is %d", e.Live, e.Max)
}

// FullError says that a scope has as many runners as Bitbucket allows.
type FullError struct {
	Scope      string
	Registered int
}

func (e *FullError) Error() string {
	return fmt.Sprintf("%d runners are registered in %s, Bitbucket allows %d", e.Registered, e.Scope, policy.ScopeLimit)
}

// ErrOutcomePending says that an earlier registration of the same runner may have
// taken effect, which no list could show yet.
var ErrOutcomePending = errors.New("whether an earlier try registered this runner is not known yet")

// register counts the scope's runners and, if both limits leave a slot, creates one
// more: nobody else counts or creates in the scope meanwhile. decide is called
// once that is so, and its error is returned as it is. What has begun is brought
// to its end even if ctx is cancelled, because a POST that is cut off would leave a
// runner that nobody knows.
func (s *scope) register(ctx context.Context, decide func() (SlotRequest, error)) (Registered, error) {
	if err := s.lockSlots(ctx); err != nil {
		return Registered{}, err
	}
	defer s.unlockSlots()
	request, err := decide()
	if err != nil {
		return Registered{}, err
	}
	if err := s.writable(); err != nil { // what is not known yet must not be counted
		return Registered{}, err
	}
	ctx = context.WithoutCancel(ctx)
	count := s.countSlots(request)
	for _, existing := range count.own {
		if err := request.Replaceable(existing); err != nil {
			return Registered{}, err
		}
	}
	atMax := count.live >= request.Max
	if !atMax && !s.mayRepeat(request.Runner.Name) {
		return Registered{}, ErrOutcomePending
	}
	for _, existing := range count.own {
		if err := s.delete(ctx, existing); err != nil {
			return Registered{}, err
		}
	}
	switch {
	case atMax:
		request.AtMax()
		return Registered{}, &AtMaxError{Live: count.live, Max: request.Max}
	case count.others >= policy.ScopeLimit:
		return Registered{}, &FullError{Scope: s.id.String(), Registered: count.others}
	}
	runner, err := s.create(ctx, request.Runner)
	if err != nil {
		if errors.Is(err, bitbucket.ErrOutcomeUnknown) {
			s.noteAttempt(request.Runner.Name)
		}
		return Registered{}, err
	}
	return Registered{Runner: runner, Scope: s.resolvedScope(), Replaced: len(count.own) > 0}, nil
}

// slotCount is how the slots of a scope are taken, from the view of one runner.
type slotCount struct {
	// own are the runners that bear its name.
	own []bitbucket.Runner
	// live are those of its group whose processes may run, without own.
	live int
	// others are all that take a slot in the scope, without own.
	others int
}

// countSlots counts from what the scope knows now, not from a snapshot, which may be
// older than a registration of a moment ago. A registration of unknown outcome
// keeps its slot until a list could have shown it.
func (s *scope) countSlots(request SlotRequest) slotCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c slotCount
	counted := map[string]struct{}{request.Runner.Name: {}}
	count := func(name string) {
		c.others++
		if _, twice := counted[name]; !twice && request.Live(name) {
			c.live++ // a pod runs one process, whatever twins its name has
		}
		counted[name] = struct{}{}
	}
	for _, runner := range s.known() {
		if runner.Name == request.Runner.Name && s.config.ours(runner) {
			c.own = append(c.own, runner)
			continue
		}
		count(runner.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(s.attempts)) {
		if _, listed := counted[name]; !listed && !s.outcomeKnown(s.attempts[name]) {
			count(name)
		}
	}
	return c
}

// outcomeKnown reports whether the list in force shows what became of an attempt
// that ended at that time. Called locked.
func (s *scope) outcomeKnown(ended time.Time) bool {
	return s.list != nil && s.list.Begun.After(ended.Add(s.config.WriteSettle))
}

// mayRepeat reports whether a runner of that name may be registered: not while an
// attempt of unknown outcome may still show up.
func (s *scope) mayRepeat(name string) bool {
	s.mu.Lock()
	ended, tried := s.attempts[name]
	known := s.outcomeKnown(ended)
	if tried && known {
		delete(s.attempts, name)
	}
	s.mu.Unlock()
	if tried && !known {
		s.refresh()
		return false
	}
	return true
}

// attemptMemory bounds the memory of attempts: no runner's life is longer.
const attemptMemory = 7 * 24 * time.Hour

// noteAttempt remembers a registration of unknown outcome, and forgets those that
// are known by now although their pods have never asked again.
func (s *scope) noteAttempt(name string) {
	now := s.config.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.attempts, func(_ string, ended time.Time) bool {
		return s.outcomeKnown(ended) || now.Sub(ended) > attemptMemory
	})
	s.attempts[name] = now
}

// whileUnregistered calls do while nobody registers a runner in the scope, unless
// one of that name exists already. An empty name is that of no runner.
func (s *scope) whileUnregistered(ctx context.Context, name string, do func(context.Context) error) error {
	if err := s.lockSlots(ctx); err != nil {
		return err
	}
	defer s.unlockSlots()
	if err := s.writable(); err != nil {
		return err
	}
	named := func(runner bitbucket.Runner) bool { return name != "" && runner.Name == name }
	if slices.ContainsFunc(s.now().Runners, named) {
		return nil // it has one by now
	}
	return do(ctx)
}
