package fleet

import (
	"maps"
	"sync"
	"time"

	"bitbucket-runner-scaler/bitbucket"
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

// Place is where a runner was registered, as its sidecar remembers it.
type Place struct {
	Credentials string
	// Scope by UUIDs.
	Scope bitbucket.Scope
}

// Telemetry is what the sidecar of one pod has reported last.
type Telemetry struct {
	// Attached is true while the sidecar's stream is open. Only then is the
	// report a witness that the runner is idle.
	Attached   bool
	RunnerUUID string
	Activity   Activity
	// StepUUID is the step being run, where Activity is ActivityBusy.
	StepUUID string
	// LastStep is the step that ended last: a list that still shows it is late.
	LastStep string
	// Place is zero where the sidecar does not tell it.
	Place Place
	// Terminating is true once the pod is to end, and stays so.
	Terminating bool
	// Unrecognized is true where the runner's output is not understood.
	Unrecognized bool
	// StepsBegun is how many steps the runner has begun; it never falls.
	StepsBegun uint32
	// Since is when Activity was first reported, by the local clock.
	Since time.Time
	// DetachedSince is when the stream ended; zero while it is open.
	DetachedSince time.Time
}

// telemetry holds what is known by pod UID.
type telemetry struct {
	mu   sync.Mutex
	pods map[string]Telemetry
	// told holds the pods whose runner was told to end, or whose Job was told to
	// complete without one, and since when: they count for nothing any more.
	told map[string]time.Time
	// replaced holds the pods that end once a successor is online, each with the UIDs
	// of the Jobs that its group had when that began: any other is a successor.
	replaced map[string]map[string]struct{}
	// asked is when each pod last asked for its registration.
	asked map[string]time.Time
}

func newTelemetry() *telemetry {
	return &telemetry{pods: map[string]Telemetry{}, told: map[string]time.Time{}, replaced: map[string]map[string]struct{}{}, asked: map[string]time.Time{}}
}

func (t *telemetry) report(podUID string, next Telemetry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.pods[podUID]
	next.LastStep = last.LastStep
	if last.StepUUID != "" && last.StepUUID != next.StepUUID && next.Activity == ActivityIdle {
		next.LastStep = last.StepUUID
	}
	if last.Activity == next.Activity && last.StepUUID == next.StepUUID && !last.Since.IsZero() && last.Attached {
		next.Since = last.Since
	}
	if next.RunnerUUID == "" {
		next.RunnerUUID = last.RunnerUUID
	}
	if next.Place == (Place{}) {
		next.Place = last.Place
	}
	next.Terminating = next.Terminating || last.Terminating
	next.StepsBegun = max(next.StepsBegun, last.StepsBegun)
	t.pods[podUID] = next
}

func (t *telemetry) detach(podUID string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.pods[podUID]; ok {
		last.Attached, last.DetachedSince = false, now
		t.pods[podUID] = last
	}
}

func (t *telemetry) tell(podUID string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, told := t.told[podUID]; !told {
		t.told[podUID] = now
	}
}

func (t *telemetry) replace(podUID string, jobs map[string]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if jobs != nil {
		t.replaced[podUID] = jobs
	} else {
		delete(t.replaced, podUID)
	}
}

func (t *telemetry) ask(podUID string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked[podUID] = now
}

// memory is all that is remembered of one pod.
type memory struct {
	Telemetry
	told, asked time.Time
	replaced    map[string]struct{}
}

func (t *telemetry) get(podUID string) memory {
	t.mu.Lock()
	defer t.mu.Unlock()
	return memory{Telemetry: t.pods[podUID], told: t.told[podUID], asked: t.asked[podUID], replaced: t.replaced[podUID]}
}

// keep forgets the pods that are not in live.
func (t *telemetry) keep(live map[string]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.pods, func(uid string, report Telemetry) bool {
		_, ok := live[uid]
		return !ok && !report.Attached
	})
	for _, times := range []map[string]time.Time{t.told, t.asked} {
		maps.DeleteFunc(times, func(uid string, _ time.Time) bool {
			_, ok := live[uid]
			return !ok
		})
	}
	maps.DeleteFunc(t.replaced, func(uid string, _ map[string]struct{}) bool {
		_, ok := live[uid]
		return !ok
	})
}
