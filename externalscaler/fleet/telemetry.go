package fleet

import (
	"maps"
	"sync"
	"time"
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
	// StepUUID is the step being run, where Activity is ActivityBusy.
	StepUUID string
	// LastStep is the step that ended last: a list that still shows it is late.
	LastStep string
	// Since is when Activity was first reported, by the local clock.
	Since time.Time
}

// telemetry holds the reports by pod UID.
type telemetry struct {
	mu   sync.Mutex
	pods map[string]Telemetry
	// told holds the pods whose runner was told to end, or whose Job was told to
	// complete without one: they count for nothing any more.
	told map[string]struct{}
}

func newTelemetry() *telemetry {
	return &telemetry{pods: map[string]Telemetry{}, told: map[string]struct{}{}}
}

func (t *telemetry) report(podUID string, next Telemetry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.pods[podUID]
	next.LastStep = last.LastStep
	if last.StepUUID != "" && last.StepUUID != next.StepUUID && next.Activity == ActivityIdle {
		next.LastStep = last.StepUUID
	}
	if last.Activity == next.Activity && last.StepUUID == next.StepUUID && !last.Since.IsZero() {
		next.Since = last.Since
	}
	if next.RunnerUUID == "" {
		next.RunnerUUID = last.RunnerUUID
	}
	t.pods[podUID] = next
}

func (t *telemetry) detach(podUID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.pods[podUID]; ok {
		last.Attached = false
		t.pods[podUID] = last
	}
}

func (t *telemetry) tell(podUID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told[podUID] = struct{}{}
}

func (t *telemetry) get(podUID string) (report Telemetry, told bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, told = t.told[podUID]
	return t.pods[podUID], told
}

// keep forgets the pods that are not in live.
func (t *telemetry) keep(live map[string]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.pods, func(uid string, report Telemetry) bool {
		_, ok := live[uid]
		return !ok && !report.Attached
	})
	maps.DeleteFunc(t.told, func(uid string, _ struct{}) bool {
		_, ok := live[uid]
		return !ok
	})
}
