package metrics

import (
	"strings"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// groups sends what is known of each group, and its histograms.
func (r *reader) groups(s sender) {
	known, invalid := r.Fleet.Observed()
	byQueue := make(map[fleet.GroupKey]bool, len(known)+len(invalid))
	for _, g := range known {
		byQueue[g.GroupKey] = g.Spec.Rules.Strategy == policy.QueuedSteps
		r.group(groupSender{s, g.GroupKey}, g)
	}
	for key := range invalid {
		byQueue[key] = false
		groupSender{s, key}.flag(faulty, true)
	}
	r.histograms.collect(s.ch, byQueue)
}

func (r *reader) group(s groupSender, g *fleet.GroupSnapshot) {
	decision, err := r.Decisions.Decide(g.GroupKey)
	s.flag(faulty, err != nil)
	if err == nil {
		s.send(desired, float64(decision.Desired))
		s.send(effective, float64(decision.Effective))
		s.send(target, float64(decision.Target))
	}
	tally := r.Decisions.Tally(g.GroupKey)
	for _, reason := range policy.Reasons() {
		s.send(decisions, float64(tally.Changes[reason]), string(reason))
	}
	s.send(atMax, tally.AtMax.Seconds())
	rules := g.Spec.Rules
	s.send(fewest, float64(rules.MinRunners()))
	s.send(most, float64(rules.MaxRunners()))
	s.send(info, 1, g.Scope.Credentials, g.Scope.String(), string(rules.Strategy))
	state := r.CrashLoops.State(g)
	s.send(failures, float64(state.Failures))
	s.send(backOff, state.Wait.Seconds())
	s.send(online, float64(g.Observation.Online()))
	if rules.Strategy == policy.QueuedSteps {
		s.send(queued, float64(g.Observation.Queued))
		s.send(predicted, float64(g.Observation.Predicted))
		s.flag(unseen, g.Observation.QueueUnknown != "")
	}
	s.members(g.Members)
}

// groupSender sends values of one group.
type groupSender struct {
	sender
	key fleet.GroupKey
}

func (s groupSender) send(m *Metric, value float64, labels ...string) {
	s.sender.send(m, value, append([]string{s.key.Namespace, s.key.Name}, labels...)...)
}

func (s groupSender) flag(m *Metric, set bool) { s.sender.flag(m, set, s.key.Namespace, s.key.Name) }

func (s groupSender) members(all []fleet.Member) {
	states, reasons, unrecognized := map[fleet.State]int{}, map[string]int{}, 0
	for _, m := range all {
		states[m.State]++
		if reason := m.Waits().Reason; reason != "" {
			reasons[reason]++
		}
		if m.Telemetry.Unrecognized {
			unrecognized++
		}
	}
	for _, state := range fleet.States() {
		s.send(members, float64(states[state]), strings.ReplaceAll(state.String(), " ", "_"))
	}
	for reason, jobs := range reasons {
		s.send(waiting, float64(jobs), reason)
	}
	s.send(unread, float64(unrecognized))
}
