package fleet

import (
	"cmp"
	"time"
)

// history is what one snapshot remembers for the next, by runner UUID.
type history struct {
	// idle is since when each idle runner has been so.
	idle map[string]time.Time
	// used has the runners that were seen with a step, and the last one's UUID;
	// empty if the step had none.
	used map[string]string
}

// trackIdle fills in since when each runner has been idle.
func (b *builder) trackIdle() {
	idle := map[string]time.Time{}
	for _, m := range b.next.members() {
		if m.State != Idle && m.State != Replaced || m.Runner == nil {
			continue
		}
		since, ok := b.in.history.idle[m.Runner.UUID]
		if !ok {
			since = b.in.now
		}
		idle[m.Runner.UUID], m.IdleSince = since, since
	}
	b.found.history.idle = idle
}

// trackUse fills in which runners had a step, and counts those of ephemeral groups
// that took another.
func (b *builder) trackUse() {
	used := map[string]string{}
	for group, m := range b.next.members() {
		if m.Runner == nil {
			continue
		}
		last, known := b.in.history.used[m.Runner.UUID]
		step, taken := m.step()
		if !known && !taken {
			continue
		}
		m.Used = true
		if group != nil && group.Spec.Rules.Ephemeral && last != "" && step != "" && step != last {
			b.found.reused++
		}
		used[m.Runner.UUID] = cmp.Or(step, last)
	}
	b.found.history.used = used
}

// step is the step that a member's runner has, or had last; false if none is known.
// A step without a UUID is one all the same.
func (m *Member) step() (uuid string, taken bool) {
	switch report := m.Telemetry; {
	case report.Activity == ActivityBusy:
		return report.StepUUID, true
	case m.Runner.State.Step != nil:
		return m.Runner.State.Step.UUID, true
	default:
		return report.LastStep, report.LastStep != "" || report.StepsBegun > 0
	}
}
