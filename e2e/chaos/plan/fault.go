package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// At Bitbucket.
const (
	Status429 Kind = "status 429"
	Status500 Kind = "status 500"
	Status503 Kind = "status 503"
	// Timeouts makes calls hang for longer than their caller waits.
	Timeouts Kind = "timeouts"
	// LostReplies applies writes and loses their answers.
	LostReplies Kind = "lost replies"
	SlowBodies  Kind = "slow"
	Truncated   Kind = "truncated"
	// Gone means that Bitbucket is unreachable.
	Gone Kind = "Bitbucket gone"
	// HiddenSteps means that neither lists nor runners show steps.
	HiddenSteps Kind = "no step shown"
	EmptyLists  Kind = "empty lists"
	// StaleLists makes lists lag behind writes.
	StaleLists Kind = "stale lists"
	// LateWrites answers writes at once and applies them later.
	LateWrites Kind = "late writes"
)

// To our own processes, and in Kubernetes.
const (
	// ScalerKilled sends SIGKILL to the leader, which is started again.
	ScalerKilled Kind = "scaler killed"
	// ScalerStopped sends SIGTERM to the leader, as in a rolling update.
	ScalerStopped Kind = "scaler stopped"
	// LeaderLost disconnects the leader from the API server for longer than its lease.
	LeaderLost    Kind = "leader lost"
	SidecarKilled Kind = "sidecar killed"
	// PodKilled kills all processes of a pod and forcibly deletes its object.
	PodKilled Kind = "pod killed"
	// NodeGone removes a node with all its processes and objects.
	NodeGone Kind = "node gone"
	// PodDeleted deletes a pod in order, as kubectl delete pod does.
	PodDeleted Kind = "pod deleted"
	// NodeDrained evicts all pods of a node.
	NodeDrained Kind = "node drained"
	// ScaledJobChanged changes a ScaledJob, so that its Jobs become outdated.
	ScaledJobChanged Kind = "ScaledJob changed"
	// APIServerAway means that no replica of the scaler reaches the API server.
	APIServerAway Kind = "API server away"
	WatchDropped  Kind = "watch dropped"
	// ClockStepped steps the wall clock of the scalers' machine.
	ClockStepped Kind = "clock stepped"
)

// From neighbours in the cluster.
const (
	// CrashLoop adds a group in the scope of another one, whose runners end at once.
	CrashLoop Kind = "crash loop"
	// FalseReports has a pod that is not a runner's report states of all runners.
	FalseReports Kind = "false reports"
	// TokenFlood calls the scaler with worthless tokens.
	TokenFlood Kind = "token flood"
)

// In rounds with groups that scale by the queue.
const (
	// HooksLost, HooksDoubled and HooksLate affect what Bitbucket delivers.
	HooksLost    Kind = "webhooks lost"
	HooksDoubled Kind = "webhooks doubled"
	HooksLate    Kind = "webhooks late"
	// HooksForged delivers events with a wrong signature, and with a right one events of
	// pipelines and repositories that there are not, or that say of live pipelines that they are
	// over.
	HooksForged Kind = "webhooks forged"
	// HookFlood delivers hundreds of events per second, most with wrong signatures.
	HookFlood Kind = "webhook flood"
	// PipelinesFail, PipelinesLag and PipelinesThrottled affect the reads of pipelines, steps
	// and files.
	PipelinesFail      Kind = "pipelines fail"
	PipelinesLag       Kind = "pipelines lag"
	PipelinesThrottled Kind = "pipelines throttled"
	// FileChanged pushes a file of which Bitbucket runs another version.
	FileChanged Kind = "file changed"
	// WrongPrediction stops a pipeline as soon as a step has passed, and mostly runs it again.
	WrongPrediction Kind = "wrong prediction"
)

// queueKinds are those of rounds with Plan.Queue.
var queueKinds = []Kind{
	HooksLost, HooksDoubled, HooksLate, HooksForged, HookFlood, PipelinesFail, PipelinesLag, PipelinesThrottled, FileChanged, WrongPrediction,
}

// Blinds reports whether a fault keeps the scaler from reading pipelines.
func (k Kind) Blinds() bool {
	return slices.Contains([]Kind{Gone, PipelinesFail, PipelinesLag, PipelinesThrottled}, k)
}

// Kinds are all of them.
var Kinds = []Kind{
	Status429, Status500, Status503, Timeouts, LostReplies, SlowBodies, Truncated, Gone, HiddenSteps, EmptyLists, StaleLists, LateWrites,
	ScalerKilled, ScalerStopped, LeaderLost, SidecarKilled, PodKilled, NodeGone, PodDeleted, NodeDrained, ScaledJobChanged,
	APIServerAway, WatchDropped, ClockStepped, CrashLoop, FalseReports, TokenFlood,
	HooksLost, HooksDoubled, HooksLate, HooksForged, HookFlood, PipelinesFail, PipelinesLag, PipelinesThrottled, FileChanged, WrongPrediction,
}

// TakesRunners reports whether a fault removes runners, so that a group can have none for
// some time because of the plan.
func (k Kind) TakesRunners() bool {
	return slices.Contains([]Kind{PodKilled, NodeGone, PodDeleted, NodeDrained}, k)
}

// faults makes at least MinFaults of at least MinFaultKinds kinds.
func (m *maker) faults() {
	p := &m.plan
	kinds := m.some(slices.DeleteFunc(slices.Clone(Kinds), func(k Kind) bool { return slices.Contains(queueKinds, k) }), MinFaultKinds+m.IntN(5))
	if p.Queue {
		kinds = slices.Concat(m.some(queueKinds, MinFaultKinds+m.IntN(3)), kinds)
	}
	for i := range max(MinFaults, len(kinds)) + m.IntN(4) {
		kind := kinds[i%len(kinds)] // so each kind occurs
		p.Faults = append(p.Faults, m.fault(kind))
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return int(a.At - b.At) })
}

// some chooses some of the kinds, in a random order.
func (m *maker) some(kinds []Kind, count int) []Kind {
	kinds = slices.DeleteFunc(slices.Clone(kinds), func(k Kind) bool { return slices.Contains(m.without, k) })
	m.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	return kinds[:min(len(kinds), count)]
}

func (m *maker) fault(kind Kind) Fault {
	f := Fault{Kind: kind, At: m.between(5*time.Second, m.plan.Length*9/10), Pick: m.IntN(1000), Busy: m.chance(0.6)}
	switch kind {
	case Status429, Status500, Status503, SlowBodies, Truncated, LostReplies, Timeouts:
		f.For, f.Probability = m.spell(10*time.Second, 45*time.Second), choose(m, 0.3, 0.6, 1)
	case HiddenSteps, EmptyLists:
		f.For, f.Probability = m.spell(10*time.Second, 45*time.Second), choose(m, 0.5, 1)
	case StaleLists, LateWrites:
		// Together they stay below the time that the scaler allows Bitbucket.
		f.For, f.Probability = m.spell(20*time.Second, 45*time.Second), choose(m, 0.5, 1)
		f.Lag = m.between(time.Second, m.plan.Times.WriteSettle*4/10)
	case Gone:
		f.For = 5 * time.Minute
		if m.real {
			f.For = m.between(30*time.Second, 60*time.Second)
		}
	case HooksLost, HooksDoubled, HooksLate, HooksForged, PipelinesFail:
		f.For, f.Probability = m.spell(20*time.Second, 60*time.Second), choose(m, 0.3, 0.6, 1)
		f.Lag = m.between(time.Second, 40*time.Second) // of late ones
	case PipelinesLag:
		f.For, f.Probability, f.Lag = m.spell(20*time.Second, 60*time.Second), choose(m, 0.5, 1), m.between(time.Second, 20*time.Second)
	case PipelinesThrottled:
		f.For, f.Probability = 10*time.Minute, 1
		if m.real {
			f.For = 10 * m.plan.Times.PollInterval // ten polls, as at the defaults
		}
	case HookFlood:
		f.For = 10 * time.Second
	case CrashLoop, FalseReports, TokenFlood:
		f.For = m.spell(20*time.Second, 60*time.Second)
	case LeaderLost, APIServerAway:
		f.For = m.spell(5*time.Second, 30*time.Second)
	case ClockStepped:
		f.For, f.Step = m.spell(20*time.Second, 90*time.Second), choose(m, -time.Hour, -time.Minute, time.Minute, time.Hour)
	}
	return f
}

// String returns one line.
func (f Fault) String() string {
	parts := []string{string(f.Kind)}
	if f.For > 0 {
		parts = append(parts, "for "+f.For.String())
	}
	if f.Probability > 0 {
		parts = append(parts, fmt.Sprintf("probability %g", f.Probability))
	}
	if f.Lag > 0 {
		parts = append(parts, "lag "+f.Lag.String())
	}
	if f.Step != 0 {
		parts = append(parts, "by "+f.Step.String())
	}
	return strings.Join(parts, ", ")
}
