package externalscaler

import (
	"errors"
	"slices"
	"sync"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// keptDecisions is how many changed decisions are kept per group.
const keptDecisions = 100

// Groups provides the snapshots that decisions are made from.
type Groups interface {
	Group(key fleet.GroupKey) (*fleet.GroupSnapshot, error)
}

// CrashLoops knows which groups' Jobs keep failing.
type CrashLoops interface {
	State(group *fleet.GroupSnapshot) crashloop.State
}

// Decisions applies the rules to each group's snapshot and keeps each group's cool-down
// window. The state is only in memory: after a restart each group has a new window.
// Decisions is safe for concurrent use.
type Decisions struct {
	groups  Groups
	crashes CrashLoops
	clock   clock.PassiveClock
	log     *zap.Logger

	mu    sync.Mutex
	known map[fleet.GroupKey]*groupState
}

// groupState is what is kept about one group.
type groupState struct {
	uid    string
	window policy.Window
	from   *fleet.GroupSnapshot
	last   policy.Decision
	past   []policy.Decision
	tally  policy.Tally
}

// NewDecisions returns Decisions for groups.
func NewDecisions(groups Groups, crashes CrashLoops, clock clock.PassiveClock, log *zap.Logger) *Decisions {
	return &Decisions{groups: groups, crashes: crashes, clock: clock, log: log, known: map[fleet.GroupKey]*groupState{}}
}

// Decide returns the group's current decision. Its errors are those of fleet.Group.
func (d *Decisions) Decide(key fleet.GroupKey) (policy.Decision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	group, err := d.groups.Group(key) // under the lock, so that an older snapshot never follows a newer one
	if err != nil {
		return policy.Decision{}, err
	}
	m := d.known[key]
	if m == nil || m.uid != group.UID {
		d.forget()
		m = &groupState{uid: group.UID} // a ScaledJob that was created again has new state
		d.known[key] = m
	}
	if m.from == group { // the snapshot is rebuilt every second, so the passing of time needs no new decision
		return m.last, nil
	}
	observed := group.Observation
	if state := d.crashes.State(group); state.Loops() {
		observed.CrashLoop, observed.Tries = state.String(), state.Tries
	}
	decision := policy.Decide(group.Spec.Rules, &m.window, observed, d.clock.Now())
	if m.tally.Add(decision) {
		d.log.Info("decision", zap.Stringer("group", key), zap.Int("desired", decision.Desired), zap.Int("effective", decision.Effective),
			zap.Int("target", decision.Target), zap.String("reason", string(decision.Reason)), zap.String("note", decision.Note))
		m.past = append(m.past, decision)
		if len(m.past) > keptDecisions {
			m.past = slices.Delete(m.past, 0, len(m.past)-keptDecisions)
		}
	}
	m.from, m.last = group, decision
	return decision, nil
}

// forget drops the groups that no longer exist. The caller holds the lock and calls it
// when it adds a group, so that the number of groups kept stays bounded.
func (d *Decisions) forget() {
	for key := range d.known {
		if _, err := d.groups.Group(key); errors.Is(err, fleet.ErrUnknownGroup) {
			delete(d.known, key)
		}
	}
}

// Tally counts the group's decisions so far.
func (d *Decisions) Tally(key fleet.GroupKey) policy.Tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.known[key]; m != nil {
		return m.tally.Clone()
	}
	return policy.Tally{}
}

// Past returns the group's last changed decisions, oldest first.
func (d *Decisions) Past(key fleet.GroupKey) []policy.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.known[key]; m != nil {
		return slices.Clone(m.past)
	}
	return nil
}
