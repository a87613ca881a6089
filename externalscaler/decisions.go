package externalscaler

import (
	"errors"
	"slices"
	"sync"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// keptDecisions is how many changed decisions of a group are remembered.
const keptDecisions = 100

// Groups gives the snapshots that decisions are made from.
type Groups interface {
	Group(key fleet.GroupKey) (*fleet.GroupSnapshot, error)
}

// Decisions applies the rules to each group's snapshot and remembers what they
// asked for, which is what scale-down is paced by. All state is soft: after a
// restart each group's window begins anew. Safe for concurrent use.
type Decisions struct {
	groups Groups
	clock  clock.PassiveClock
	log    *zap.Logger

	mu    sync.Mutex
	known map[fleet.GroupKey]*memory
}

type memory struct {
	uid    string
	window policy.Window
	from   *fleet.GroupSnapshot
	last   policy.Decision
	past   []policy.Decision
}

// NewDecisions makes Decisions over the fleet.
func NewDecisions(groups Groups, clock clock.PassiveClock, log *zap.Logger) *Decisions {
	return &Decisions{groups: groups, clock: clock, log: log, known: map[fleet.GroupKey]*memory{}}
}

// Decide gives the group's decision as of now. Errors are those of fleet.Group.
func (d *Decisions) Decide(key fleet.GroupKey) (policy.Decision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	group, err := d.groups.Group(key) // under the lock, so that no older snapshot follows a newer one
	if err != nil {
		return policy.Decision{}, err
	}
	m := d.known[key]
	if m == nil || m.uid != group.UID {
		d.forget()
		m = &memory{uid: group.UID} // a ScaledJob made anew begins anew
		d.known[key] = m
	}
	if m.from == group { // the snapshot is rebuilt every second, so time is no reason to decide again
		return m.last, nil
	}
	decision := policy.Decide(group.Spec.Rules, &m.window, group.Observation, d.clock.Now())
	if m.from == nil || m.last.Effective != decision.Effective || m.last.Target != decision.Target || m.last.Reason != decision.Reason {
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

// forget drops the groups that are no more. Called locked, when one is added, so
// that as many are remembered as there were at one time.
func (d *Decisions) forget() {
	for key := range d.known {
		if _, err := d.groups.Group(key); errors.Is(err, fleet.ErrUnknownGroup) {
			delete(d.known, key)
		}
	}
}

// Past are the group's last changed decisions, the oldest first.
func (d *Decisions) Past(key fleet.GroupKey) []policy.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.known[key]; m != nil {
		return slices.Clone(m.past)
	}
	return nil
}
