package reaper

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is when the rules look.
var now = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// step is a step of a runner.
var step = &bitbucket.Step{UUID: "{5}"}

// one makes a member with a Job, a pod on a node and a runner that is an hour old,
// listed as ONLINE by a list that shows steps, and idle by its own report for ten
// minutes; the edits change it.
func one(name string, state fleet.State, edits ...func(*fleet.Member)) fleet.Member {
	m := fleet.Member{
		Name:  name,
		Job:   &fleet.Job{Namespace: "ns", Name: name, UID: name + "-job", CreatedOn: now.Add(-time.Hour)},
		Pod:   &fleet.Pod{Namespace: "ns", Name: name + "-pod", UID: name + "-pod", Node: "node"},
		State: state, Age: time.Hour, IdleSince: now.Add(-10 * time.Minute), ListBegun: now,
		Runner:    &bitbucket.Runner{UUID: "{" + name + "}", Name: name, State: bitbucket.RunnerState{Status: bitbucket.StatusOnline}},
		Telemetry: fleet.Telemetry{Attached: true, Activity: fleet.ActivityIdle, RunnerUUID: "{" + name + "}", Since: now.Add(-10 * time.Minute)},
	}
	m.Listed, m.IsListed = scope.Listed{Runner: *m.Runner, ShowsSteps: true}, true
	for _, edit := range edits {
		edit(&m)
	}
	return m
}

// Edits of a member.

// disabled has a list or a recheck show the runner DISABLED.
func disabled(m *fleet.Member) { status(bitbucket.StatusDisabled)(m) }

func status(s bitbucket.Status) func(*fleet.Member) {
	return func(m *fleet.Member) { m.Runner.State.Status, m.Listed.Runner.State.Status = s, s }
}

// withStep has Bitbucket show a step of the runner.
func withStep(m *fleet.Member) { m.Listed.Runner.State.Step = step }

// ended has the sidecar report the end of that step some time ago.
func ended(ago time.Duration) func(*fleet.Member) {
	return func(m *fleet.Member) { m.Telemetry.LastStep, m.Telemetry.Since = step.UUID, now.Add(-ago) }
}

// noSteps has Bitbucket's lists show no step of any runner.
func noSteps(m *fleet.Member) { m.Listed.ShowsSteps = false }

// does has the sidecar report an activity since some time ago.
func does(a fleet.Activity, ago time.Duration) func(*fleet.Member) {
	return func(m *fleet.Member) { m.Telemetry.Activity, m.Telemetry.Since = a, now.Add(-ago) }
}

func detached(m *fleet.Member)     { m.Telemetry.Attached = false }
func unlisted(m *fleet.Member)     { m.IsListed, m.Listed.Runner = false, bitbucket.Runner{} }
func unrecognized(m *fleet.Member) { m.Telemetry.Unrecognized = true }
func deleting(m *fleet.Member)     { m.Pod.Deleting = true }
func outdated(m *fleet.Member)     { m.Outdated = true }
func used(m *fleet.Member)         { m.Used = true }
func noRunner(m *fleet.Member)     { m.Runner, m.IsListed = nil, false }
func noPod(m *fleet.Member)        { m.Pod = nil }
func unscheduled(m *fleet.Member)  { m.Pod.Node = "" }
func finished(m *fleet.Member)     { m.Pod.Finished = true }

func aged(age time.Duration) func(*fleet.Member) { return func(m *fleet.Member) { m.Age = age } }

func idleFor(d time.Duration) func(*fleet.Member) {
	return func(m *fleet.Member) { m.IdleSince = now.Add(-d) }
}

func created(ago time.Duration) func(*fleet.Member) {
	return func(m *fleet.Member) { m.Job.CreatedOn = now.Add(-ago) }
}

func asked(ago time.Duration) func(*fleet.Member) {
	return func(m *fleet.Member) { m.AskedLast = now.Add(-ago) }
}

// seen is what one look of a test sees: members of a group with these settings.
func seen(t *testing.T, settings map[string]string, members ...fleet.Member) sight {
	t.Helper()
	metadata := map[string]string{"workspace": "acme", "labels": "a"}
	for key, value := range settings {
		metadata[key] = value
	}
	spec, err := runnergroup.Parse(metadata)
	if err != nil {
		t.Fatal(err)
	}
	group := &fleet.GroupSnapshot{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "builds"}, Spec: spec, Members: members, ListBegun: now}
	return sight{now: now, group: group, members: members}
}

// knowing makes rules of the default limits.
func knowing() rules {
	return rules{Limits: Limits{}.withDefaults(), memory: newMemory(5 * time.Second)}
}

// lasting is knowing after a condition has held for that long, over three lists.
func lasting(about string, c condition, d time.Duration) rules {
	r := knowing()
	r.memory.watched[watchKey{about, c}] = watched{last: now, lists: 3, list: now, lasted: d}
	return r
}

// inOneList is knowing after a condition has held for an hour, in one and the same list.
func inOneList(about string, c condition) rules {
	r := lasting(about, c, time.Hour)
	w := r.memory.watched[watchKey{about, c}]
	w.lists = 1
	r.memory.watched[watchKey{about, c}] = w
	return r
}

// decided is a decision that wants so many runners, of a group with these members.
func decided(s sight, effective int) policy.Decision {
	d := policy.Decision{Effective: effective, Rules: s.group.Spec.Rules}
	for _, m := range s.members {
		switch m.State {
		case fleet.Pending:
			d.Observation.Pending++
		case fleet.Starting:
			d.Observation.Starting++
		case fleet.Idle:
			d.Observation.Idle++
		case fleet.Busy:
			d.Observation.Busy++
		case fleet.Unknown:
			d.Observation.Unknown++
		}
	}
	return d
}

var kinds = map[kind]string{
	disable: "disable", disableOrStop: "disable or stop", stop: "stop", confirmGone: "confirm gone", confirmGoneDelete: "confirm gone, delete",
	deleteJob: "delete", deleteUnregistered: "delete unregistered", finishUnregistered: "finish", markReplaced: "replace", unmarkReplaced: "keep",
}

// told are actions as a test writes them: what is done, to whom, and why.
func told(due []action) (lines []string) {
	for _, a := range due {
		lines = append(lines, fmt.Sprintf("%s %s: %s", kinds[a.kind], a.member.Name, a.reason))
	}
	return lines
}

func check(t *testing.T, got []action, want ...string) {
	t.Helper()
	if !slices.Equal(told(got), want) {
		t.Errorf("got %q, want %q", told(got), want)
	}
}
