package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// now is when the snapshots of these tests are built.
var now = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// pieces are what a test's snapshot is built from: one ScaledJob in acme, and one
// Job with a pod.
func pieces() (Config, input) {
	pod := Pod{Namespace: "ns", Name: "builds-1-pod", UID: "pod-uid", Node: "node"}
	c := Config{Owner: owner, Kubernetes: cluster{}, Scopes: &scopes{}}.withDefaults()
	return c, input{
		now:        now,
		scaledJobs: []ScaledJob{{GroupKey: GroupKey{"ns", "builds"}, UID: "builds-uid", CreatedOn: now.Add(-time.Hour), Metadata: of("acme", "", "a")}},
		jobs:       []Job{{Namespace: "ns", Name: "builds-1", UID: "job-uid", ScaledJobUID: "builds-uid", Pod: &pod}},
		pods:       []Pod{pod},
		views:      scope.Views{},
		reports:    reports{},
	}
}

// registered is the runner of the pod of pieces.
func registered(status bitbucket.Status) bitbucket.Runner {
	return bitbucket.Runner{
		UUID: "{r}", Name: scope.RunnerName("builds-1-pod", "pod-uid"), Labels: []string{"self.hosted", "linux", "a", owner},
		CreatedOn: now.Add(-time.Minute), State: bitbucket.RunnerState{Status: status, UpdatedOn: now.Add(-time.Minute)},
	}
}

// shown is a view of a scope with these runners.
func shown(id scope.ID, uuid string, runners ...bitbucket.Runner) *scope.View {
	v := &scope.View{ID: id, Runners: runners, ListBegun: now.Add(-time.Second), ServerDate: now.Add(-time.Second), StepSeen: true}
	if uuid != "" {
		v.Resolved = bitbucket.Scope{Workspace: uuid}
	}
	return v
}

const acmeUUID, otherUUID = "{11111111-1111-4111-8111-111111111111}", "{22222222-2222-4222-8222-222222222222}"

func TestBuildingASnapshotChangesNothingAndSaysWhatIsWanted(t *testing.T) {
	c, in := pieces()
	s, found := c.build(in)
	group := s.groups[GroupKey{"ns", "builds"}]
	if group == nil || len(group.Members) != 1 || group.Members[0].State != Pending || !group.ListBegun.IsZero() {
		t.Fatalf("got %+v, want a group with one pending Job and no list", group)
	}
	if len(found.wanted) != 1 || found.wanted[0] != (scope.Wanted{ID: id("acme", ""), Namespace: "ns", At: now}) {
		t.Errorf("wanted %+v, want the group's scope", found.wanted)
	}
	if _, live := s.live["pod-uid"]; !live {
		t.Error("its pod is not live")
	}
}

func TestMetadataIsParsedAgainWhenItChanges(t *testing.T) {
	c, in := pieces()
	scaledJob := &in.scaledJobs[0]
	valid := scaledJob.Metadata
	for _, step := range []struct{ name, max, want string }{
		{"at first", "7", ""}, {"changed", "8", ""}, {"invalid", "x", `max: "x"`}, {"still invalid", "x", `max: "x"`}, {"mended", "9", ""}, {"unchanged", "9", ""},
	} {
		scaledJob.Metadata = maps.Clone(valid)
		scaledJob.Metadata["max"] = step.max
		s, found := c.build(in)
		in.history = found.history
		err := s.errs[scaledJob.GroupKey]
		if (step.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("%s: got %v, want %q", step.name, err, step.want)
		}
		if group := s.groups[scaledJob.GroupKey]; step.want == "" && (group == nil || fmt.Sprint(group.Spec.Rules.Max) != step.max || group.Metadata["max"] != step.max) {
			t.Errorf("%s: got %+v, want max %s", step.name, group, step.max)
		}
	}
	remembered := in.history.parsed[scaledJob.UID]
	remembered.spec.Rules.Max = 77
	in.history.parsed[scaledJob.UID] = remembered
	if s, _ := c.build(in); s.groups[scaledJob.GroupKey].Spec.Rules.Max != 77 {
		t.Error("unchanged metadata was parsed again")
	}
	in.scaledJobs = nil
	if _, found := c.build(in); len(found.history.parsed) > 0 {
		t.Errorf("a ScaledJob that is gone is remembered: %v", found.history.parsed)
	}
}

func TestWhichRunnerIsThePodsOwn(t *testing.T) {
	mine := registered(bitbucket.StatusOnline)
	moved := mine
	moved.Labels = []string{"self.hosted", "linux", "b", owner}
	theirs := mine
	theirs.Labels = []string{"self.hosted", "linux", "a", "keda.other"}
	other := scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: otherUUID}}
	for name, c := range map[string]struct {
		views    []*scope.View
		reported scope.ID
		want     State
		scope    scope.ID
		outdated bool
		wanted   int
	}{
		"none is listed":                          {views: []*scope.View{shown(id("acme", ""), acmeUUID)}, want: Pending, scope: id("acme", ""), wanted: 1},
		"one of its name":                         {views: []*scope.View{shown(id("acme", ""), acmeUUID, mine)}, want: Idle, scope: id("acme", ""), wanted: 1},
		"one of its name, with other labels":      {views: []*scope.View{shown(id("acme", ""), acmeUUID, moved)}, want: Idle, scope: id("acme", ""), outdated: true, wanted: 1},
		"one of its name of another installation": {views: []*scope.View{shown(id("acme", ""), acmeUUID, theirs)}, want: Pending, scope: id("acme", ""), wanted: 1},
		"one in another scope":                    {views: []*scope.View{shown(id("acme", ""), acmeUUID), shown(other, otherUUID, mine)}, want: Idle, scope: other, outdated: true, wanted: 1},
		"in a scope that its sidecar names":       {views: []*scope.View{shown(id("acme", ""), acmeUUID)}, reported: other, want: Pending, scope: id("acme", ""), wanted: 2},
		"in its own scope, which it names":        {views: []*scope.View{shown(id("acme", ""), acmeUUID)}, reported: scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: acmeUUID}}, want: Pending, scope: id("acme", ""), wanted: 1},
		"a scope that it names and is not in":     {views: []*scope.View{shown(id("acme", ""), acmeUUID), shown(other, otherUUID)}, reported: other, want: Pending, scope: id("acme", ""), wanted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			config, in := pieces()
			for _, view := range c.views {
				in.views[view.ID] = view
			}
			in.reports["pod-uid"] = &podMemory{Telemetry: Telemetry{Scope: c.reported}}
			s, found := config.build(in)
			m := s.groups[GroupKey{"ns", "builds"}].Members[0]
			if m.State != c.want || m.Scope != c.scope || m.Outdated != c.outdated || len(found.wanted) != c.wanted {
				t.Errorf("got %s in %v, outdated %v, %d scopes wanted; want %s in %v, %v, %d", m.State, m.Scope, m.Outdated, len(found.wanted), c.want, c.scope, c.outdated, c.wanted)
			}
		})
	}
}

func TestPodsWithoutAGroupAreSeenToTheirEnd(t *testing.T) {
	c, in := pieces()
	in.scaledJobs, in.jobs = nil, nil
	in.views[id("acme", "")] = shown(id("acme", ""), acmeUUID, registered(bitbucket.StatusOnline))
	s, _ := c.build(in)
	if len(s.orphaned) != 1 || s.orphaned[0].State != Idle || s.orphaned[0].Scope != id("acme", "") {
		t.Errorf("with a listed runner: got %+v", s.orphaned)
	}
	in.views = scope.Views{}
	if s, found := c.build(in); len(s.orphaned) != 0 || len(found.wanted) != 0 {
		t.Errorf("with nothing known of it: got %+v, wanted %v", s.orphaned, found.wanted)
	}
	in.reports["pod-uid"] = &podMemory{Telemetry: Telemetry{Scope: id(acmeUUID, "")}}
	if s, found := c.build(in); len(s.orphaned) != 1 || len(found.wanted) != 1 || found.wanted[0].ID != id(acmeUUID, "") {
		t.Errorf("with a scope that its sidecar names: got %+v, wanted %v", s.orphaned, found.wanted)
	}
	c.MayPoll = func(string, scope.ID) error { return errors.New("not for that") }
	if s, found := c.build(in); len(s.orphaned) != 0 || len(found.wanted) != 0 {
		t.Errorf("with a scope that its namespace may not reach: got %+v, wanted %v", s.orphaned, found.wanted)
	}
}

func TestTheYoungerOfTwoGroupsWithTheSameRunnersIsADuplicate(t *testing.T) {
	c, in := pieces()
	in.scaledJobs = append([]ScaledJob{{GroupKey: GroupKey{"ns", "twin"}, UID: "twin-uid", CreatedOn: now, Metadata: of(acmeUUID, "", "a")}}, in.scaledJobs...)
	view := shown(id("acme", ""), acmeUUID)
	in.views[view.ID], in.views[id(acmeUUID, "")] = view, view
	s, _ := c.build(in)
	var duplicate *DuplicateError
	if err := s.errs[GroupKey{"ns", "twin"}]; !errors.As(err, &duplicate) || duplicate.Other.Name != "builds" {
		t.Errorf("got %v, want a duplicate of builds", err)
	}
	in.scaledJobs[0].Metadata["credentials"] = "other"
	in.views[scope.ID{Credentials: "other", Scope: bitbucket.Scope{Workspace: acmeUUID}}] = shown(scope.ID{Credentials: "other", Scope: bitbucket.Scope{Workspace: acmeUUID}}, acmeUUID)
	s, _ = c.build(in)
	if err := s.errs[GroupKey{"ns", "twin"}]; !errors.As(err, &duplicate) {
		t.Errorf("through another credentials set: got %v, want a duplicate of builds", err)
	}
}

func TestAGroupThatIsNotAdmittedCostsNothing(t *testing.T) {
	refused := errors.New("not for that")
	for name, kubernetes := range map[string]Kubernetes{"a ScaledJob": cluster{}, "a call": nil} {
		t.Run(name, func(t *testing.T) {
			c, in := pieces()
			c.Kubernetes = kubernetes
			spec, err := runnergroup.Parse(of("acme", "", "a"))
			if err != nil {
				t.Fatal(err)
			}
			in.called = map[GroupKey]calledGroup{{"ns", "builds"}: {spec: spec, at: now}}
			c.Admit = func(key GroupKey, spec runnergroup.Group) error {
				return fmt.Errorf("%s %s: %w", key, spec.Workspace, refused)
			}
			s, found := c.build(in)
			if err := s.errs[GroupKey{"ns", "builds"}]; !errors.Is(err, refused) || len(found.wanted) != 0 {
				t.Errorf("got %v, wanted %v", err, found.wanted)
			}
		})
	}
}

func TestAListThatLacksAKnownStepIsDistrusted(t *testing.T) {
	begun := now.Add(-time.Second)
	for name, c := range map[string]struct {
		since    time.Duration
		activity Activity
		attached bool
		step     *bitbucket.Step
		want     bool
	}{
		"busy since long before the list": {since: -stepShownAfter - time.Second, activity: ActivityBusy, attached: true, want: true},
		"busy since a moment before":      {since: -time.Second, activity: ActivityBusy, attached: true},
		"busy, and the list shows it":     {since: -time.Hour, activity: ActivityBusy, attached: true, step: &bitbucket.Step{UUID: "{s}"}},
		"busy when it was last heard":     {since: -time.Hour, activity: ActivityBusy},
		"idle":                            {since: -time.Hour, activity: ActivityIdle, attached: true},
	} {
		t.Run(name, func(t *testing.T) {
			config, in := pieces()
			runner := registered(bitbucket.StatusOnline)
			runner.State.Step = c.step
			in.views[id("acme", "")] = shown(id("acme", ""), acmeUUID, runner)
			in.reports["pod-uid"] = &podMemory{Telemetry: Telemetry{Attached: c.attached, Activity: c.activity, Since: begun.Add(c.since)}}
			_, found := config.build(in)
			if got := slices.Equal(found.distrusted, []distrusted{{id("acme", ""), begun}}); got != c.want || !got && len(found.distrusted) > 0 {
				t.Errorf("distrusted %v, want %v", found.distrusted, c.want)
			}
		})
	}
}

func TestWhatOneSnapshotRemembersForTheNext(t *testing.T) {
	c, in := pieces()
	in.scaledJobs[0].Metadata["ephemeral"] = "true"
	in.scaledJobs[0].Metadata["strategy"] = "percentageRunnersIdle"
	idle := shown(id("acme", ""), acmeUUID, registered(bitbucket.StatusOnline))
	busy := func(step string) *scope.View {
		runner := registered(bitbucket.StatusOnline)
		runner.State.Step = &bitbucket.Step{UUID: step}
		return shown(id("acme", ""), acmeUUID, runner)
	}
	begun := in.now
	for i, step := range []struct {
		view   *scope.View
		used   bool
		idle   time.Time
		reused int64
	}{
		{view: idle, idle: begun},
		{view: idle, idle: begun},
		{view: busy("{1}"), used: true},
		{view: idle, used: true, idle: begun.Add(3 * time.Minute)},
		{view: busy("{2}"), used: true, reused: 1},
		{view: busy("{2}"), used: true},
	} {
		in.views = scope.Views{step.view.ID: step.view}
		s, found := c.build(in)
		m := s.groups[GroupKey{"ns", "builds"}].Members[0]
		if m.Used != step.used || !m.IdleSince.Equal(step.idle) || found.reused != step.reused {
			t.Errorf("look %d: used %v, idle since %v, reused %d; want %v, %v, %d", i, m.Used, m.IdleSince, found.reused, step.used, step.idle, step.reused)
		}
		in.history, in.now = found.history, in.now.Add(time.Minute)
	}
}
