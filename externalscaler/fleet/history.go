package fleet

import (
	"cmp"
	"maps"
	"time"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// history is what one snapshot remembers for the next.
type history struct {
	// idle is since when each idle runner has been so, by its UUID.
	idle map[string]time.Time
	// used has the runners that were seen with a step, by UUID, and the last one's UUID;
	// empty if the step had none.
	used map[string]string
	// parsed is the metadata of each ScaledJob as it was parsed, by UID.
	parsed map[string]parsed
	// grouping and joined are what the snapshot was made from, and its groups.
	grouping *grouping
	joined   joinedFrom
}

// joinedFrom is what the members of groups were joined from, besides Jobs and pods.
type joinedFrom struct {
	scaledJobs []ScaledJob
	views      scope.Views
	reports    reports
	groups     map[GroupKey]*GroupSnapshot
}

// forgetMembers has all members joined again, because time alone changes what they count as.
func (h *history) forgetMembers() { h.joined = joinedFrom{} }

// membersFor returns the groups whose members are still right, but for what runners have reported
// since; nil if anything else has changed.
func (h history) membersFor(in input, g *grouping) map[GroupKey]*GroupSnapshot {
	if last := h.joined; h.grouping == g && same(last.scaledJobs, in.scaledJobs) && maps.Equal(last.views, in.views) {
		return last.groups
	}
	return nil
}

// parsed is the result of parsing metadata, which hardly ever changes.
type parsed struct {
	metadata map[string]string
	spec     runnergroup.Group
	err      error
}

// parse parses the metadata of a ScaledJob, unless it is that of the snapshot before.
func (b *builder) parse(s ScaledJob) (runnergroup.Group, error) {
	known, ok := b.in.history.parsed[s.UID]
	if !ok || !maps.Equal(known.metadata, s.Metadata) {
		known.metadata = s.Metadata
		known.spec, known.err = runnergroup.Parse(s.Metadata)
	}
	b.found.history.parsed[s.UID] = known
	return known.spec, known.err
}

// trackIdle fills in since when each runner has been idle.
func (b *builder) trackIdle() {
	idle := make(map[string]time.Time, len(b.in.history.idle))
	for group, m := range b.next.members() {
		if m.State != Idle && m.State != Replaced || m.Runner == nil {
			continue
		}
		since, ok := b.in.history.idle[m.Runner.UUID]
		if !ok {
			since = b.in.now
		}
		idle[m.Runner.UUID] = since
		if group == nil || !group.kept {
			m.IdleSince = since
		}
	}
	b.found.history.idle = idle
}

// trackUse fills in which runners had a step, and counts those of ephemeral groups
// that took another.
func (b *builder) trackUse() {
	used := make(map[string]string, len(b.in.history.used))
	for group, m := range b.next.members() {
		if m.Runner == nil {
			continue
		}
		last, known := b.in.history.used[m.Runner.UUID]
		step, taken := m.step()
		if !known && !taken {
			continue
		}
		if group == nil || !group.kept {
			m.Used = true
		}
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
