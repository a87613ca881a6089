package fleet

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/externalscaler/scope"
)

// measured is what a Fleet has measured.
type measured struct {
	online, steps []time.Duration
	rebuilt       atomic.Int64 // the last time that a snapshot took
}

func (m *measured) CameOnline(key GroupKey, took time.Duration) { m.online = append(m.online, took) }
func (m *measured) StepRan(key GroupKey, took time.Duration)    { m.steps = append(m.steps, took) }
func (m *measured) Rebuilt(took time.Duration)                  { m.rebuilt.Store(int64(took)) }

// slow are scopes of which each look takes a time.
type slow struct {
	*scopes
	clock *clocktesting.FakeClock
	takes time.Duration
}

func (s slow) Views() scope.Views {
	s.clock.Step(s.takes)
	return s.scopes.Views()
}

func TestHowLongASnapshotTakesIsMeasured(t *testing.T) {
	clk, m := clocktesting.NewFakeClock(now), &measured{}
	start(t, Config{Clock: clk, RebuildInterval: -1, Scopes: slow{&scopes{}, clk, 30 * time.Millisecond}, Measures: m})
	until(t, "a snapshot", func() bool { return m.rebuilt.Load() == int64(30*time.Millisecond) })
}

func TestHowLongRunnersTakeIsMeasuredIfItWasSeen(t *testing.T) {
	const seconds = time.Second
	// A report of its pod after a time; or, without an activity, the end of its stream.
	type event struct {
		after    time.Duration
		asks     bool
		activity Activity
		step     string
	}
	for name, c := range map[string]struct {
		events        []event
		online, steps []time.Duration
	}{
		"a runner with two steps": {
			events: []event{
				{after: 20 * seconds, asks: true}, {after: 5 * seconds, activity: ActivityStarting}, {after: 15 * seconds, activity: ActivityIdle},
				{after: 60 * seconds, activity: ActivityBusy, step: "{1}"}, {after: 30 * seconds, activity: ActivityBusy, step: "{1}"},
				{after: 30 * seconds, activity: ActivityBusy, step: "{2}"}, {after: 10 * seconds, activity: ActivityIdle}, {after: seconds, activity: ActivityIdle},
			},
			online: []time.Duration{40 * seconds}, steps: []time.Duration{60 * seconds, 10 * seconds},
		},
		"one that ends with its step": {
			events: []event{
				{asks: true}, {activity: ActivityIdle}, {after: 60 * seconds, activity: ActivityBusy, step: "{1}"}, {after: 300 * seconds, activity: ActivityEnded},
			},
			online: []time.Duration{0}, steps: []time.Duration{300 * seconds},
		},
		"one that was online before this process led": {events: []event{{after: 3600 * seconds, activity: ActivityIdle}}},
		"one that was busy before this process led": {
			events: []event{{after: 3600 * seconds, activity: ActivityBusy, step: "{1}"}, {after: 10 * seconds, activity: ActivityIdle}},
		},
		"one whose stream broke while its step ran": {
			events: []event{
				{asks: true}, {activity: ActivityIdle}, {after: 60 * seconds, activity: ActivityBusy, step: "{1}"}, {after: 5 * seconds},
				{after: 600 * seconds, activity: ActivityIdle},
			},
			online: []time.Duration{0},
		},
		"one whose stream broke, and whose step still ran then": {
			events: []event{
				{asks: true}, {activity: ActivityIdle}, {after: 60 * seconds, activity: ActivityBusy, step: "{1}"}, {after: 5 * seconds},
				{after: 10 * seconds, activity: ActivityBusy, step: "{1}"}, {after: 45 * seconds, activity: ActivityIdle},
			},
			online: []time.Duration{0}, steps: []time.Duration{60 * seconds},
		},
		"one whose stream broke before its step began": {
			events: []event{
				{asks: true}, {activity: ActivityIdle}, {after: 5 * seconds}, {after: 600 * seconds, activity: ActivityBusy, step: "{1}"},
				{after: 10 * seconds, activity: ActivityIdle},
			},
			online: []time.Duration{0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakeClock(now)
			_, in := pieces()
			in.jobs[0].CreatedOn = now
			m := &measured{}
			lists := &scopes{views: scope.Views{id("acme", ""): shown(id("acme", ""), acmeUUID)}}
			f := start(t, Config{Clock: clk, RebuildInterval: -1, Scopes: lists, Measures: m, Kubernetes: cluster{in.scaledJobs, in.jobs, in.pods}})
			until(t, "the pod", func() bool { _, _, ok := f.Member("pod-uid"); return ok })
			for _, e := range c.events {
				clk.Step(e.after)
				switch {
				case e.asks:
					f.NoteRegisterRequest("pod-uid")
				case e.activity == ActivityUnknown:
					f.Detach("pod-uid")
				default:
					f.Report("pod-uid", Telemetry{Attached: true, Activity: e.activity, StepUUID: e.step})
				}
			}
			if !slices.Equal(m.online, c.online) || !slices.Equal(m.steps, c.steps) {
				t.Errorf("online %v, steps %v; want %v and %v", m.online, m.steps, c.online, c.steps)
			}
		})
	}
}
