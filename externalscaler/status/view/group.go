package view

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// taking is the making of one picture.
type taking struct {
	Config
	now          time.Time
	groups       map[fleet.GroupKey]*shownGroup
	order        []*shownGroup
	live         []queue.LivePipeline
	repositories []queue.RepositorySight
	// running are the runners that run a step, by its lower-case UUID.
	running map[string]api.Runner
	// readers are groups that look at the repositories that cannot be read, by the repository's name.
	readers map[string]string
}

// shownGroup is a group, with what the reasons of its steps are made from.
type shownGroup struct {
	key      fleet.GroupKey
	snapshot *fleet.GroupSnapshot // nil if the group is faulty
	decision policy.Decision
	// decided is why there is no decision; nil if there is one.
	decided error
	crash   crashloop.State
	runners []api.Runner
	shown   api.Group
}

// look reads all sources.
func (t *taking) look() {
	t.live, t.repositories = t.Queue.Look()
	t.running = map[string]api.Runner{}
	valid, faulty := t.Fleet.Observed()
	for _, snapshot := range valid {
		t.add(&shownGroup{key: snapshot.GroupKey, snapshot: snapshot})
	}
	for key, err := range faulty {
		t.add(&shownGroup{key: key, decided: err})
	}
	slices.SortFunc(t.order, func(a, b *shownGroup) int {
		return cmp.Or(cmp.Compare(a.key.Namespace, b.key.Namespace), cmp.Compare(a.key.Name, b.key.Name))
	})
	for _, g := range t.order {
		g.shown.Problems = t.groupProblems(g)
	}
}

func (t *taking) add(g *shownGroup) {
	t.groups[g.key] = g
	t.order = append(t.order, g)
	g.shown = api.Group{Namespace: g.key.Namespace, Name: g.key.Name, Runners: map[string]int{}}
	if g.snapshot == nil {
		g.shown.Error = g.decided.Error()
		return
	}
	g.crash = t.Crashes.State(g.snapshot)
	spec, rules := g.snapshot.Spec, g.snapshot.Spec.Rules
	g.shown.Scope, g.shown.Credentials, g.shown.Strategy = g.snapshot.Scope.String(), spec.Credentials, string(rules.Strategy)
	g.shown.Labels = append([]string{"self.hosted", spec.OS}, spec.Labels...)
	g.shown.Min, g.shown.Max, g.shown.Spare = rules.MinRunners(), rules.MaxRunners(), rules.Spare
	g.shown.Ephemeral, g.shown.CoolDown = rules.Ephemeral, rules.CoolDown.Seconds()
	g.shown.Schedule = spec.Open
	for _, w := range spec.Windows {
		g.shown.Schedules = append(g.shown.Schedules, w.String())
	}
	g.shown.Hold, g.shown.Listed = g.snapshot.Hold, at(g.snapshot.ListBegun)
	for i := range g.snapshot.Members {
		t.addRunner(g, &g.snapshot.Members[i])
	}
	if rules.Strategy == policy.QueuedSteps {
		o := g.snapshot.Observation
		g.shown.Queue = &api.Queue{Queued: o.Queued, Predicted: o.Predicted, Unknown: o.QueueUnknown}
	}
	g.decision, g.decided = t.Decisions.Decide(g.key)
	if g.decided != nil {
		g.shown.Error = g.decided.Error()
		return
	}
	shown := decisionOf(g.key, g.decision)
	g.shown.Decision = &shown
}

func (t *taking) addRunner(g *shownGroup, m *fleet.Member) {
	if m.State == fleet.Gone {
		return
	}
	g.shown.Runners[m.State.String()]++
	shown := api.Runner{Group: g.key.String(), Name: m.Name, State: m.State.String(), Outdated: m.Outdated}
	if m.Runner != nil {
		shown.UUID, shown.Since = m.Runner.UUID, at(m.Runner.CreatedOn)
	} else {
		shown.Name = ""
	}
	if m.Job != nil {
		shown.Job, shown.Created = m.Job.Name, at(m.Job.CreatedOn)
	}
	if m.Pod != nil {
		shown.Pod, shown.Node = m.Pod.Name, m.Pod.Node
	}
	if cause := m.Waits(); cause.Reason != "" {
		shown.Waits = cause.String()
	}
	switch {
	case m.State == fleet.Idle && !m.IdleSince.IsZero():
		shown.Since = at(m.IdleSince)
	case !m.Telemetry.Since.IsZero():
		shown.Since = at(m.Telemetry.Since)
	case m.Runner == nil && m.Job != nil:
		shown.Since = at(m.Job.CreatedOn)
	}
	shown.Step = stepOnRunner(m, g.key, shown.Since)
	if shown.Step != nil {
		t.running[shown.Step.UUID] = shown
	}
	g.runners = append(g.runners, shown)
}

// stepOnRunner is the step that a runner runs, as far as it is known without the queue; nil if
// none.
func stepOnRunner(m *fleet.Member, key fleet.GroupKey, since *time.Time) *api.Step {
	id := m.Telemetry.Run.Running
	switch {
	case m.State != fleet.Busy && m.State != fleet.DrainingBusy:
		return nil
	case m.Telemetry.StepUUID != "":
		id.Step = m.Telemetry.StepUUID
	case id.Step == "" && m.Runner != nil && m.Runner.State.Step != nil:
		id.Step = m.Runner.State.Step.UUID
	}
	if id.Step == "" {
		return nil
	}
	return &api.Step{UUID: strings.ToLower(id.Step), Pipeline: id.Pipeline, State: api.StepRunning, Group: key.String(), Runner: m.Name, Since: since}
}

// decisionOf shows a decision.
func decisionOf(key fleet.GroupKey, d policy.Decision) api.Decision {
	o := d.Observation
	inputs := map[string]int{
		"pending": o.Pending, "starting": o.Starting, "idle": o.Idle, "busy": o.Busy, "unknown": o.Unknown,
		"draining": o.Draining, "drainingBusy": o.DrainingBusy, "lost": o.Lost, "outdated": o.Outdated, "successors": o.Successors,
		"queued": o.Queued, "predicted": o.Predicted, "begun": o.Begun, "otherRegistered": o.OtherRegistered, "otherReserved": o.OtherReserved,
		"min": d.Rules.MinRunners(), "max": d.Rules.MaxRunners(), "spare": d.Rules.Spare,
	}
	maps.DeleteFunc(inputs, func(name string, n int) bool { return n == 0 && name != "min" && name != "max" })
	return api.Decision{
		Group: key.String(), Time: d.Time.UTC(), Desired: d.Desired, Effective: d.Effective, Target: d.Target,
		Reason: string(d.Reason), Note: d.Note, Inputs: inputs,
	}
}
