package policy

import (
	"maps"
	"time"
)

// Tally counts the decisions about one group. The zero value is ready to use. A Tally is not
// safe for concurrent use.
type Tally struct {
	// Changes counts by reason the decisions that were not like the one before.
	Changes map[Reason]int
	// AtMax is how long the group has had as many runners as it may have.
	AtMax time.Duration

	last Decision
}

// Add adds the next decision. It reports whether it is not like the one before.
func (t *Tally) Add(d Decision) (changed bool) {
	if t.last.AtMax() {
		t.AtMax += max(0, d.Time.Sub(t.last.Time))
	}
	changed = t.last.Reason != d.Reason || t.last.Effective != d.Effective || t.last.Target != d.Target
	t.last = d
	if changed {
		if t.Changes == nil {
			t.Changes = make(map[Reason]int)
		}
		t.Changes[d.Reason]++
	}
	return changed
}

// Clone returns a copy that does not change any more.
func (t Tally) Clone() Tally {
	t.Changes = maps.Clone(t.Changes)
	return t
}

// AtMax reports whether the group should have as many runners as its maximum allows. A Fixed
// group always has what it should have.
func (d Decision) AtMax() bool {
	return d.Reason != "" && d.Rules.Strategy != Fixed && d.Effective >= d.Rules.Max
}
