package fleet

import (
	"errors"
	"fmt"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// Member is one Job of a group with its runner; without Kubernetes, one runner; or
// a pod that belongs to no group any more.
type Member struct {
	// Job is nil without Kubernetes, and if it was deleted.
	Job *Job
	// Pod is nil if the Job has none yet.
	Pod *Pod
	// Name is the runner's name; empty for a Job without a pod.
	Name string
	// Scope is where the runner is, or will be, registered.
	Scope scope.ID
	// ListBegun is when the list of Scope was begun that the member rests on.
	ListBegun time.Time
	// Runner is what Bitbucket says; nil if none is registered.
	Runner *bitbucket.Runner
	// Listed is Runner as the last list or a later read of it shows it, without what
	// was written since. IsListed is false if neither shows it.
	Listed   scope.Listed
	IsListed bool
	// Telemetry is what the sidecar says.
	Telemetry Telemetry
	State     State
	// Outdated is true if the Job was made from an older form of its ScaledJob, or
	// its runner has another scope or other labels.
	Outdated bool
	// Used is true once the runner was seen with a step.
	Used bool
	// IdleSince is when the runner was first seen idle, without a break since.
	IdleSince time.Time
	// StoppingSince is when the pod was told to end; zero if it was not.
	StoppingSince time.Time
	// AskedLast is when the pod last asked for its registration.
	AskedLast time.Time
	// Refused is why Bitbucket refused that registration; empty if it did not.
	Refused string
	// Age of the runner's registration by Bitbucket's clock; 0 without a runner.
	Age time.Duration

	// replaced are the Jobs that the group had when the runner's replacement began;
	// nil if it has not.
	replaced map[string]struct{}
}

// Terminating reports whether the pod is to end.
func (m Member) Terminating() bool {
	return m.Telemetry.Terminating || m.Pod != nil && m.Pod.Deleting
}

// Waits is why the member does not come to a runner, or its runner not online; zero if
// nothing is wrong.
func (m Member) Waits() Cause {
	switch {
	case m.Pod != nil && m.Pod.Waits.Reason == "" && m.Runner == nil && m.Refused != "":
		return Cause{Reason: RegistrationRefused, Message: m.Refused}
	case m.Pod != nil:
		return m.Pod.Waits
	case m.Job != nil:
		return m.Job.Waits
	}
	return Cause{}
}

// RegistrationRefused is the reason for which a Job does not come to a runner that is not one of
// Kubernetes' but of Bitbucket's.
const RegistrationRefused = "RegistrationRefused"

// Enabled reports whether the runner is ONLINE and takes steps.
func (m Member) Enabled() bool {
	switch m.State {
	case Idle, Busy, Unknown, Replaced:
		return true
	}
	return false
}

// GroupSnapshot is one runner group at one moment. It is immutable.
type GroupSnapshot struct {
	GroupKey
	UID string
	// Metadata of the trigger as it is in the ScaledJob.
	Metadata map[string]string
	// Generation of the ScaledJob.
	Generation string
	Spec       runnergroup.Group
	// Scope is where its runners live.
	Scope scope.ID
	// Hold says why the group must not be scaled down; empty if nothing forbids it.
	Hold    string
	Members []Member
	// Failed are the Jobs of the group that have failed and are still kept.
	Failed      []Job
	Observation policy.Observation
	// Waiting are the steps that wait for its runners, or soon will.
	Waiting []queue.Step
	// ListBegun is when the list that this rests on was begun; ListErr is why the
	// last one failed, nil if it did not.
	ListBegun time.Time
	ListErr   error
	// NotFound says that Bitbucket does not know the scope, and since when.
	NotFound scope.NotFound
	// ListInterval is the time between two lists that is in force.
	ListInterval time.Duration
	// ListsStretched is true if it is noticeably longer than configured, for the hourly
	// budget of the credentials set.
	ListsStretched bool

	view *scope.View
	// kept is true if Members are those of the snapshot before, which nobody may change.
	kept bool
}

// Errors that tell a caller why a group has no snapshot. A fault of the metadata
// is a *runnergroup.InvalidError.
var (
	// ErrUnknownGroup: no ScaledJob of that name and metadata.
	ErrUnknownGroup = errors.New("no such runner group")
	// ErrTooManyScopes: more scopes were asked for than are served without
	// Kubernetes.
	ErrTooManyScopes = errors.New("too many scopes")
)

// DuplicateError says that two ScaledJobs claim the same runners.
type DuplicateError struct{ Other GroupKey }

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("labels: the same scope and labels as the older ScaledJob %s, want a set of their own", e.Other)
}

// successors counts the capacity that came since a replacement began.
func (g *GroupSnapshot) successors() (n int) {
	for i := range g.Members {
		old := &g.Members[i]
		if old.State != Replaced {
			continue
		}
		for _, m := range g.Members {
			if _, before := old.replaced[m.Job.UID]; before {
				continue
			}
			switch m.State {
			case Pending, Starting, Idle, Busy, Unknown:
				n++
			}
		}
	}
	return n
}

// Count counts the members, for the rules. What is known of others and of the queue is not in it.
func (g *GroupSnapshot) Count() policy.Observation {
	o := observe(g.Members)
	o.Successors = g.successors()
	return o
}

// Replace marks a member as one that ends once its successor, a Job that there is not yet, is online.
func (g *GroupSnapshot) Replace(member int) { g.Members[member].replaced = g.jobs() }

// Keep takes Replace back.
func (g *GroupSnapshot) Keep(member int) { g.Members[member].replaced = nil }

// jobs are the UIDs of the group's Jobs.
func (g *GroupSnapshot) jobs() map[string]struct{} {
	jobs := make(map[string]struct{}, len(g.Members))
	for _, m := range g.Members {
		jobs[m.Job.UID] = struct{}{}
	}
	return jobs
}

// observe makes the observation that the rules are applied to.
func (g *GroupSnapshot) observe() {
	g.Observation = g.Count()
	g.Observation.OtherRegistered = len(g.view.Runners)
	for _, m := range g.Members {
		if m.Runner != nil && m.Scope == g.Scope {
			g.Observation.OtherRegistered--
		}
	}
}
