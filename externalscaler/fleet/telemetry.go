package fleet

import (
	"maps"
	"sync"
	"time"

	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// Activity is what a runner process was last seen doing, from its own log lines.
type Activity int

// The activities, in the order of a runner's life.
const (
	// ActivityUnknown: nothing is known, so nothing may be concluded.
	ActivityUnknown Activity = iota
	ActivityStarting
	ActivityIdle
	ActivityBusy
	ActivityStopping
	ActivityEnded
)

// Telemetry is what the sidecar of one pod has reported last.
type Telemetry struct {
	// Attached is true while the sidecar's stream is open. Only then is the
	// report a witness that the runner is idle.
	Attached   bool
	RunnerUUID string
	Activity   Activity
	// StepUUID is the step being run if Activity is ActivityBusy.
	StepUUID string
	// Run has the steps with their pipelines, if the sidecar reports these.
	Run queue.Run
	// LastStep is the step that ended last: a list that still shows it is late.
	LastStep string
	// Scope is where the runner was registered, by UUIDs, as its sidecar remembers
	// it; zero if the sidecar does not report it.
	Scope scope.ID
	// Terminating is true once the pod is to end, and stays so.
	Terminating bool
	// Unrecognized is true if the runner's output is not understood.
	Unrecognized bool
	// StepsBegun is how many steps the runner has begun; it never falls.
	StepsBegun uint32
	// Since is when Activity was first reported, by the local clock.
	Since time.Time
	// OnlineSince is when the sidecar first reported that the runner is online, by the
	// local clock; zero if it never did.
	OnlineSince time.Time
	// DetachedSince is when the stream ended; zero while it is open.
	DetachedSince time.Time
}

// podMemory is all that is remembered of one pod. It is immutable.
type podMemory struct {
	Telemetry
	// reported is true once the sidecar has reported anything.
	reported bool
	// stopping is since when the runner was told to end, or the Job to complete
	// without one: the pod counts for nothing any more. Zero if it was not.
	stopping time.Time
	// asked is when the pod last asked for its registration.
	asked time.Time
	// refused is why Bitbucket refused it then; empty if it did not.
	refused string
	// stepBegun is when the runner reported the step that it runs; zero if it runs none, or if
	// it ran it before it was heard of.
	stepBegun time.Time
	// replaced are the UIDs of the Jobs that the group had when the replacement of
	// this pod began: any other is a successor. Nil if it has not begun.
	replaced map[string]struct{}
}

// telemetry holds what is remembered of each pod, by the pod's UID.
type telemetry struct {
	mu   sync.Mutex
	pods reports
}

// reports are what is remembered of each pod, by the pod's UID. A pod of which nothing new is
// remembered keeps its value.
type reports map[string]*podMemory

// of returns what is remembered of a pod; nothing if it is not known.
func (r reports) of(podUID string) *podMemory {
	if pod := r[podUID]; pod != nil {
		return pod
	}
	return &podMemory{}
}

func newTelemetry() *telemetry { return &telemetry{pods: reports{}} }

// change replaces what is remembered of a pod.
func (t *telemetry) change(podUID string, apply func(*podMemory)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pod := *t.pods.of(podUID)
	apply(&pod)
	t.pods[podUID] = &pod
}

// news is what a report says that the one before did not.
type news struct {
	// online is true if the runner came online, and had asked this process for its registration.
	online bool
	// begun is when the step began that has ended; zero if none has, or if it is not known.
	begun time.Time
}

func (t *telemetry) report(podUID string, next Telemetry) (news news) {
	t.change(podUID, func(pod *podMemory) {
		last := pod.Telemetry
		if same := next.Activity == ActivityBusy && next.StepUUID == last.StepUUID; !same {
			begun := pod.stepBegun
			pod.stepBegun = time.Time{}
			if last.Attached { // or it may have happened at any time since
				news.begun = begun
				if next.Activity == ActivityBusy {
					pod.stepBegun = next.Since
				}
			}
		}
		pod.Telemetry, pod.reported = last.Then(next), true
		news.online = last.OnlineSince.IsZero() && !pod.OnlineSince.IsZero() && !pod.asked.IsZero()
	})
	return news
}

// Then returns what is known after the sidecar's next report, which came at next.Since.
func (t Telemetry) Then(next Telemetry) Telemetry {
	next.LastStep = t.LastStep
	if t.StepUUID != "" && t.StepUUID != next.StepUUID && next.Activity == ActivityIdle {
		next.LastStep = t.StepUUID
	}
	next.OnlineSince = t.OnlineSince
	if t.Activity == next.Activity && t.StepUUID == next.StepUUID && !t.Since.IsZero() && t.Attached {
		next.Since = t.Since
	}
	if next.RunnerUUID == "" {
		next.RunnerUUID = t.RunnerUUID
	}
	if t.Scope != (scope.ID{}) {
		next.Scope = t.Scope // a pod registers one runner, once: another scope is a false one
	}
	if next.OnlineSince.IsZero() && (next.Activity == ActivityIdle || next.Activity == ActivityBusy) {
		next.OnlineSince = next.Since
	}
	next.Terminating = next.Terminating || t.Terminating
	next.StepsBegun = max(next.StepsBegun, t.StepsBegun)
	return next
}

func (t *telemetry) detach(podUID string, now time.Time) {
	t.change(podUID, func(pod *podMemory) {
		if pod.reported {
			pod.Attached, pod.DetachedSince = false, now
		}
	})
}

func (t *telemetry) get(podUID string) podMemory {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.pods.of(podUID)
}

// all returns what is remembered of every pod.
func (t *telemetry) all() reports {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.pods)
}

// keep forgets the pods that are not in live, unless their sidecars are attached.
func (t *telemetry) keep(live map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for uid, pod := range t.pods {
		switch _, ok := live[uid]; {
		case ok:
		case pod.Attached: // its stream will end, or the watch will show it
			t.pods[uid] = &podMemory{Telemetry: pod.Telemetry, reported: true}
		default:
			delete(t.pods, uid)
		}
	}
}
