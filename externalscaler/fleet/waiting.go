package fleet

import (
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// UnservedStep is a step that asks for a runner, now, later or before it failed, and that no
// runner known to the fleet serves.
type UnservedStep struct {
	queue.Step
	// Nearest is the group whose labels come closest, and UID that of its ScaledJob; zero if no
	// group's runners can take steps of the repository.
	Nearest GroupKey
	UID     string
	Hint    pipelines.Hint
}

// joinQueue gives each group what waits for its runners, and collects what the queue must know.
func (b *builder) joinQueue() {
	groups := b.next.sorted()
	demand := queue.Demand{Groups: make([]queue.Group, len(groups)), Shown: b.shown()}
	taken := make(map[string]pipelines.Labels, len(demand.Shown))
	for id := range demand.Shown {
		taken[id] = nil
	}
	for i, g := range groups {
		spec := g.Spec
		labels := pipelines.Labels(spec.RunnerLabels(b.Owner))
		demand.Groups[i] = queue.Group{
			Namespace: g.Namespace, Name: g.Name, Credentials: spec.Credentials, Scope: g.view.Resolved, Labels: labels,
			ByQueue: spec.Rules.Strategy == policy.QueuedSteps, Repositories: spec.Repositories, LookAhead: spec.LookAhead, Ephemeral: spec.Rules.Ephemeral,
		}
		for _, m := range g.Members {
			report := m.Telemetry
			// Not the step that has ended: the queue knows that, and the step may be retried.
			for _, id := range []string{report.StepUUID, report.Run.Running.Step} {
				id = strings.ToLower(id)
				if _, shown := taken[id]; id != "" && !shown {
					taken[id] = labels
				}
			}
			if m.Pod != nil && report.Run != (queue.Run{}) {
				demand.Runs = append(demand.Runs, queue.Reported{Pod: m.Pod.UID, Group: i, Run: report.Run})
			}
		}
	}
	b.found.demand, b.next.serving = demand, demand.Groups
	if b.in.queue == nil {
		for _, g := range groups {
			g.Observation.QueueUnknown = "nothing reads it"
		}
		return
	}
	answers, unserved := b.in.queue.For(queue.Input{Groups: demand.Groups, Taken: taken, Serves: b.served, Now: b.in.now})
	for i, a := range answers {
		o := &groups[i].Observation
		o.Queued, o.Predicted, o.Begun, o.QueuedFrom, o.QueuePending, o.QueueUnknown = a.Queued, a.Predicted, a.Begun, a.From, a.Pending, a.Unknown
		groups[i].Waiting = a.Steps
	}
	for _, u := range unserved {
		step := UnservedStep{Step: u.Step, Hint: u.Hint}
		if u.Nearest >= 0 {
			step.Nearest, step.UID = groups[u.Nearest].GroupKey, groups[u.Nearest].UID
		}
		b.next.unserved = append(b.next.unserved, step)
	}
}

// shown are the steps that lists show on runners, each with the time at which its list was begun.
func (b *builder) shown() map[string]time.Time {
	shown := map[string]time.Time{}
	for id, view := range b.in.views {
		if id != view.ID {
			continue // an alias
		}
		for _, runner := range view.Runners {
			if runner.State.Step != nil {
				shown[strings.ToLower(runner.State.Step.UUID)] = view.ListBegun
			}
		}
	}
	return shown
}

// served reports whether a runner of somebody else serves such steps.
func (b *builder) served(repository bitbucket.Scope, labels pipelines.Labels) bool {
	for _, view := range b.in.views {
		in := view.Resolved
		if in.Workspace != repository.Workspace || in.Repository != "" && in.Repository != repository.Repository {
			continue
		}
		if slices.ContainsFunc(view.Runners, func(r bitbucket.Runner) bool {
			return !scope.Owned(r, b.Owner) && r.State.Status != bitbucket.StatusUnregistered && labels.ServedBy(r.Labels)
		}) {
			return true
		}
	}
	return false
}

// Unserved are the steps that ask for a runner and that no runner known to the fleet serves.
func (f *Fleet) Unserved() []UnservedStep { return f.current.Load().unserved }

// Serving returns the group that serves steps of some labels in a repository; false if none does.
func (f *Fleet) Serving(repository bitbucket.Scope, labels pipelines.Labels) (GroupKey, bool) {
	groups := f.current.Load().serving
	i := queue.Serving(groups, repository, labels)
	if i < 0 {
		return GroupKey{}, false
	}
	return GroupKey{Namespace: groups[i].Namespace, Name: groups[i].Name}, true
}
