package trace

import (
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// stage is a following with an exporter in memory, and one runner.
type stage struct {
	*following
	clock *clocktesting.FakeClock
	spans *tracetest.InMemoryExporter
	fleet *fakeFleet
}

type fakeFleet struct {
	group    fleet.GroupSnapshot
	faulty   map[fleet.GroupKey]error
	orphaned []fleet.Member
}

func (f *fakeFleet) Observed() ([]*fleet.GroupSnapshot, map[fleet.GroupKey]error) {
	if _, faulty := f.faulty[f.group.GroupKey]; faulty {
		return nil, f.faulty
	}
	return []*fleet.GroupSnapshot{&f.group}, f.faulty
}
func (f *fakeFleet) OrphanedPods() []fleet.Member { return f.orphaned }
func (f *fakeFleet) Wait() <-chan struct{}        { return nil }

type noQueue struct{}

func (noQueue) Look() ([]queue.LivePipeline, []queue.RepositorySight) { return nil, nil }

// begun is when the Job of the stage was created, in whole seconds as Kubernetes says it.
var begun = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

func newStage(t *testing.T) *stage {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	s := &stage{
		clock: clocktesting.NewFakeClock(begun.Add(2 * time.Second)), spans: spans,
		fleet: &fakeFleet{group: fleet.GroupSnapshot{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "fleet"}, ListBegun: begun}},
	}
	tracer := New(Config{
		Provider: NewProvider(sdktrace.WithSyncer(spans)), Fleet: s.fleet, Queue: noQueue{}, Clock: clock.PassiveClock(s.clock),
	})
	s.following = &following{Tracer: tracer, lives: map[string]*life{}, byPod: map[string]string{}}
	return s
}

// member is the stage's runner, pending.
func member() fleet.Member {
	pod := &fleet.Pod{UID: "pod", CreatedOn: begun}
	return fleet.Member{Job: &fleet.Job{UID: "job", CreatedOn: begun, Pod: pod}, Pod: pod, ListBegun: begun}
}

// onlineMember is the stage's runner when it is online and idle.
func onlineMember() fleet.Member {
	m := member()
	m.Runner = &bitbucket.Runner{UUID: "{runner}", State: bitbucket.RunnerState{Status: bitbucket.StatusOnline}}
	m.Telemetry = fleet.Telemetry{Attached: true, Activity: fleet.ActivityIdle, OnlineSince: begun.Add(30 * time.Second), Since: begun.Add(30 * time.Second)}
	return m
}

// show shows a snapshot with these members after a time.
func (s *stage) show(after time.Duration, members ...fleet.Member) {
	s.clock.Step(after)
	s.fleet.group.Members = members
	s.look()
}

// count counts the exported spans of this name.
func (s *stage) count(name string) (n int) {
	for _, span := range s.spans.GetSpans() {
		if span.Name == name {
			n++
		}
	}
	return n
}

func TestTheTraceEndsWithTheJob(t *testing.T) {
	s := newStage(t)
	s.show(0, member())
	s.show(28*time.Second, onlineMember())
	if s.count("runner") != 0 || s.count("connect") != 1 {
		t.Errorf("while it lives: %d of the runner and %d of its start, want 0 and 1", s.count("runner"), s.count("connect"))
	}
	s.show(time.Minute)
	if s.count("runner") != 1 || s.count("connect") != 1 {
		t.Errorf("in the end: %d of the runner and %d of its start, want 1 and 1", s.count("runner"), s.count("connect"))
	}
	if len(s.lives) != 0 || len(s.byPod) != 0 {
		t.Errorf("it still remembers %v, %v", s.lives, s.byPod)
	}
}

func TestTheTraceDoesNotEndWhileTheGroupIsFaulty(t *testing.T) {
	s := newStage(t)
	s.show(0, member())
	s.fleet.faulty = map[fleet.GroupKey]error{s.fleet.group.GroupKey: fleet.ErrUnknownGroup}
	s.show(time.Minute)
	s.fleet.faulty = nil
	s.show(time.Minute, onlineMember())
	if s.count("runner") != 0 {
		t.Error("the trace has ended")
	}
}

func TestAPodWhoseJobWasDeletedEndsItsStepInTheTrace(t *testing.T) {
	s := newStage(t)
	s.show(0, member())
	m := onlineMember()
	m.Telemetry.Activity, m.Telemetry.StepUUID, m.Telemetry.Since = fleet.ActivityBusy, "{step}", begun.Add(time.Minute)
	s.show(time.Minute, m)
	orphaned := m
	orphaned.Job = nil
	s.fleet.orphaned = []fleet.Member{orphaned}
	s.show(time.Minute)
	if s.count("runner") != 0 {
		t.Fatal("the trace has ended with the Job")
	}
	orphaned.Telemetry.Activity, orphaned.Telemetry.StepUUID, orphaned.Telemetry.Since = fleet.ActivityEnded, "", begun.Add(3*time.Minute)
	s.fleet.orphaned[0] = orphaned
	s.show(time.Minute)
	s.fleet.orphaned = nil
	s.show(time.Second)
	if s.count("runner") != 1 || s.count("step") != 1 {
		t.Errorf("%d of the runner and %d of its step, want 1 and 1", s.count("runner"), s.count("step"))
	}
}

func TestNoRunnerIsFollowedBeforeTheFirstList(t *testing.T) {
	s := newStage(t)
	s.fleet.group.ListBegun = time.Time{}
	s.show(0, member())
	if len(s.lives) != 0 {
		t.Error("a runner is followed of which it is not known how far it has come")
	}
}

func TestAStepBetweenTwoSnapshotsIsNotForgotten(t *testing.T) {
	s := newStage(t)
	s.show(0, member())
	s.show(time.Minute, onlineMember())
	m := onlineMember()
	m.Telemetry.Since, m.Telemetry.StepsBegun = begun.Add(90*time.Second), 1
	m.Telemetry.Run = queue.Run{Ended: queue.StepID{Repository: "{r}", Pipeline: "{p}", Step: "{step}"}, Result: "FAILED"}
	s.show(time.Minute, m)
	s.show(time.Minute, m)
	if n := s.count("step"); n != 1 {
		t.Errorf("got %d spans of the step, want 1", n)
	}
}

func TestEachRunOfAStepHasASpan(t *testing.T) {
	s := newStage(t)
	s.show(0, member())
	s.show(time.Minute, onlineMember())
	m := onlineMember()
	m.Telemetry.Activity, m.Telemetry.StepUUID, m.Telemetry.StepsBegun, m.Telemetry.Since = fleet.ActivityBusy, "{step}", 1, begun.Add(time.Minute)
	s.show(time.Minute, m)
	m.Telemetry.StepsBegun, m.Telemetry.Since = 2, begun.Add(2*time.Minute) // it is run again at once
	s.show(time.Minute, m)
	s.show(time.Minute)
	if n := s.count("step"); n != 2 {
		t.Errorf("got %d spans, want 2", n)
	}
}

func TestWhichCallAskedForAJob(t *testing.T) {
	key := fleet.GroupKey{Namespace: "ns", Name: "fleet"}
	c := newCalls()
	if _, ok := c.before(key, begun); ok {
		t.Error("found a call though there was none")
	}
	for i := range 20 {
		c.add(key, call{at: begun.Add(time.Duration(i)*5*time.Second + 300*time.Millisecond)})
	}
	if len(c.known[key]) != keptCalls {
		t.Errorf("%d calls are remembered, want %d", len(c.known[key]), keptCalls)
	}
	// The Job was created 100 ms after the call, and Kubernetes cuts off the fraction.
	if got, ok := c.before(key, begun.Add(80*time.Second)); !ok || !got.at.Equal(begun.Add(80*time.Second+300*time.Millisecond)) {
		t.Errorf("got the call at %v, want the one of the same second", got.at)
	}
	if got, ok := c.before(key, begun.Add(84*time.Second)); !ok || !got.at.Equal(begun.Add(80*time.Second+300*time.Millisecond)) {
		t.Errorf("got the call at %v, want the last one before", got.at)
	}
	c.keep(nil)
	if len(c.known) != 0 {
		t.Error("a group that does not exist is remembered")
	}
}

func TestARunnerThatIsNotSampledCostsNoLookAtItsSteps(t *testing.T) {
	s := newStage(t)
	s.tracer = NewProvider(sdktrace.WithSyncer(s.spans), sdktrace.WithSampler(sdktrace.NeverSample())).Tracer(scope)
	s.show(0, member())
	m := onlineMember()
	m.Telemetry.Activity, m.Telemetry.StepUUID = fleet.ActivityBusy, "{step}"
	s.show(time.Minute, m)
	if l := s.lives["job"]; l == nil || l.step != nil {
		t.Errorf("got %+v, want a runner whose steps are not followed", l)
	}
	s.show(time.Minute)
	if n := len(s.spans.GetSpans()); n != 0 || len(s.lives) != 0 {
		t.Errorf("%d spans, and %d runners are remembered, want none", n, len(s.lives))
	}
}
