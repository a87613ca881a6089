package reaper

import (
	"slices"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// written are the Events of a test.
type written []string

func (w *written) Event(_ fleet.GroupKey, _ string, event Event) {
	*w = append(*w, event.Reason+": "+event.Message)
}

func unregistered(m *fleet.Member) { noRunner(m); m.Telemetry = fleet.Telemetry{} }

func waits(reason string) func(*fleet.Member) {
	return func(m *fleet.Member) { m.Pod.Waits = fleet.Cause{Reason: reason, Message: "of " + m.Job.Name} }
}

// The users learn within a minute why a Job does not come to a runner, and are not told
// the same for each Job and each try.
func TestTheUsersAreToldWhyJobsWait(t *testing.T) {
	var events written
	clk := clocktesting.NewFakeClock(now)
	r := New(Config{Events: &events, Clock: clk})
	refused := func(m *fleet.Member) {
		noPod(m)
		m.Job.Waits = fleet.Cause{Reason: "FailedCreate", Message: "exceeded quota"}
	}
	at := now
	look := func(members ...fleet.Member) {
		s := seen(t, nil, members...)
		s.now, s.group.UID = at, "uid"
		r.decide(func(rules rules) []action { rules.observe(s); return nil })
		r.sayWaiting(s)
	}
	for range 5 { // a node or an image that takes a while
		look(one("a", fleet.Pending, unregistered, waits("Unschedulable")))
		at = at.Add(2 * time.Second)
	}
	look(one("a", fleet.Pending, unregistered))
	if len(events) != 0 {
		t.Fatalf("an Event reports a wait that ended soon: %q", events)
	}
	begun := at
	for ; at.Sub(begun) < 5*time.Minute; at = at.Add(2 * time.Second) {
		look(one("a", fleet.Pending, unregistered, refused), one("b", fleet.Pending, unregistered, waits("ImagePullBackOff")), one("c", fleet.Starting, waits("ImagePullBackOff")))
		if len(events) < 2 && at.Sub(begun) > 30*time.Second {
			t.Fatalf("after %v the users know %q", at.Sub(begun), events)
		}
	}
	slices.Sort(events)
	if len(events) != 2 || events[0] != "JobWaiting: Job a does not come to a runner: FailedCreate: exceeded quota" || !strings.HasPrefix(events[1], "JobWaiting: Job b does not come to a runner: ImagePullBackOff: ") {
		t.Errorf("got %q", events)
	}
}

func TestARemovalNamesWhatThereIsAndWhy(t *testing.T) {
	for name, c := range map[string]struct {
		member fleet.Member
		want   string
	}{
		"a runner and its Job":             {one("a", fleet.Idle), "runner a of Job a was ended: why"},
		"a runner that is gone":            {one("a", fleet.Lost, noRunner), "runner a of Job a was ended: why"},
		"a Job without a runner":           {one("a", fleet.Pending, unregistered), "Job a was ended: why"},
		"a Job without a pod":              {one("a", fleet.Pending, unregistered, noPod, func(m *fleet.Member) { m.Name = "" }), "Job a was ended: why"},
		"a runner whose Job was deleted":   {one("a", fleet.Idle, func(m *fleet.Member) { m.Job = nil }), "runner a was ended: why"},
		"a runner that is not online, yet": {one("a", fleet.Starting, status(bitbucket.StatusUnregistered)), "runner a of Job a was ended: why"},
	} {
		t.Run(name, func(t *testing.T) {
			var events written
			r := New(Config{Events: &events})
			r.removed(subject{uid: "uid"}, c.member, removal{ReasonStuck, "why"})
			if len(events) != 1 || events[0] != "Stuck: "+c.want {
				t.Errorf("got %q, want %q", events, c.want)
			}
		})
	}
}

func TestARemovalSaysWhatKubernetesSays(t *testing.T) {
	stuckJob := one("a", fleet.Pending, unregistered, waits("ImagePullBackOff"))
	got := lasting("a-job", stuck, time.Hour).endStuck(seen(t, nil, stuckJob))
	if len(got) != 1 || !strings.HasSuffix(got[0].why, " (ImagePullBackOff: of a)") {
		t.Errorf("stuck: got %+v", got)
	}
	lostRunner := one("a", fleet.Lost, status(bitbucket.StatusUnregistered), waits("CreateContainerConfigError"))
	got = lasting("{a}", lost, time.Hour).endLost(seen(t, nil, lostRunner))
	if len(got) != 1 || !strings.HasSuffix(got[0].why, " (CreateContainerConfigError: of a)") {
		t.Errorf("lost: got %+v", got)
	}
}

// looping is a group whose Jobs keep failing, or not.
type looping struct{ state crashloop.State }

func (l *looping) State(*fleet.GroupSnapshot) crashloop.State { return l.state }

func TestTheUsersAreToldWhyJobsKeepFailing(t *testing.T) {
	var events written
	loop := &looping{}
	r := New(Config{Events: &events, Clock: clocktesting.NewFakeClock(now), CrashLoops: loop})
	at := now
	look := func(d time.Duration) {
		for end := at.Add(d); at.Before(end); at = at.Add(2 * time.Second) {
			s := seen(t, nil)
			s.now, s.group.UID = at, "uid"
			r.sayCrashLoop(s)
		}
	}
	look(time.Minute)
	loop.state = crashloop.State{Failures: 3, On: at}
	look(10 * time.Second)
	if len(events) != 0 {
		t.Fatalf("told before the cause is known: %q", events)
	}
	loop.state.Cause, loop.state.LastLine = fleet.Cause{Reason: "OOMKilled", Message: "container runner: exit code 137"}, "bye"
	look(loopAgain - time.Minute)
	if len(events) != 1 || !strings.HasPrefix(events[0], "CrashLoop: the last 3 Jobs") || !strings.Contains(events[0], "OOMKilled: container runner: exit code 137") || !strings.Contains(events[0], `"bye"`) {
		t.Errorf("got %q", events)
	}
	look(2 * time.Minute)
	if len(events) != 2 {
		t.Errorf("%d Events in an hour of failures, want the second one now", len(events))
	}
	loop.state = crashloop.State{}
	look(time.Minute)
	loop.state = crashloop.State{Failures: 3, On: at} // another loop, of which no cause becomes known
	look(causeWait + 4*time.Second)
	if len(events) != 3 {
		t.Errorf("got %q", events)
	}
}
