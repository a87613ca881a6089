package round

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/network"
	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// fail injects a fault at its time and waits for its end. A fault without a victim is not
// recorded.
func (r *Round) fail(ctx context.Context, number int, f plan.Fault) {
	if !r.at(ctx, f.At) {
		return
	}
	done := true
	defer r.blind(f)()
	switch f.Kind {
	case plan.Gone:
		r.note("%s", f)
		r.bitbucket.Set(network.Refuse)
		r.pause(ctx, f.For)
		r.bitbucket.Set(network.Pass)
	case plan.ScalerKilled, plan.ScalerStopped, plan.LeaderLost:
		done = r.failLeader(ctx, f)
	case plan.SidecarKilled, plan.PodKilled, plan.PodDeleted:
		done = r.failPod(ctx, f)
	case plan.NodeGone, plan.NodeDrained:
		done = r.failNode(ctx, f)
	case plan.ScaledJobChanged:
		done = r.change(ctx, f)
	case plan.APIServerAway:
		r.note("%s", f)
		for _, one := range r.replicas {
			one.api.Set(network.Refuse)
		}
		r.pause(ctx, f.For)
		for _, one := range r.replicas {
			one.api.Set(network.Pass)
		}
	case plan.WatchDropped:
		r.note("%s", f)
		for _, one := range r.replicas {
			one.api.DropWatches()
		}
	case plan.ClockStepped:
		r.note("%s", f)
		r.scalerClock.Step(f.Step)
		r.pause(ctx, f.For)
		r.scalerClock.Step(0)
	case plan.CrashLoop:
		done = r.crashLoop(ctx, number, f)
	case plan.FalseReports:
		done = r.reportFalsely(ctx, number, f)
	case plan.TokenFlood:
		done = r.flood(ctx, f)
	case plan.HooksForged:
		done = r.forge(ctx, f)
	case plan.HookFlood:
		done = r.floodHooks(ctx, f)
	case plan.FileChanged:
		done = r.changeFile(ctx, f)
	case plan.WrongPrediction:
		done = r.mislead(ctx, f)
	default:
		done = r.failBitbucket(ctx, number, f)
	}
	if done {
		r.count(f.Kind)
	}
}

// The paths of runners at Bitbucket.
const (
	anyRunners = "*/pipelines-config/runners*"
	runnerList = "*/pipelines-config/runners"
)

// pipelineReads are the paths of pipelines, steps and files at Bitbucket.
var pipelineReads = []string{"*/pipelines", "*/pipelines/*", "*/src/*"}

// injected are the emulator's rules for a fault.
type injected struct {
	calls      []emulator.FaultRule
	deliveries []emulator.DeliveryFault
}

// rules returns the emulator's rules for a fault of Bitbucket.
func rules(f plan.Fault) []emulator.FaultRule {
	rule := emulator.FaultRule{Path: anyRunners, Probability: f.Probability}
	writes := func(rule emulator.FaultRule) (all []emulator.FaultRule) {
		for _, method := range []string{"POST", "PUT", "DELETE"} {
			rule.Method = method
			all = append(all, rule)
		}
		return all
	}
	reads := func(rule emulator.FaultRule) (all []emulator.FaultRule) {
		for _, path := range pipelineReads {
			rule.Method, rule.Path = "GET", path
			all = append(all, rule)
		}
		return all
	}
	switch f.Kind {
	case plan.Status429:
		rule.Status = 429
	case plan.Status500:
		rule.Status = 500
	case plan.Status503:
		rule.Status = 503
	case plan.Timeouts:
		rule.Latency = "3m"
	case plan.SlowBodies:
		rule.Latency = "4s"
	case plan.Truncated:
		rule.Truncate = true
	case plan.LostReplies:
		rule.DropAfterWrite = true
		return writes(rule)
	case plan.LateWrites:
		rule.ApplyAfter = f.Lag.String()
		return writes(rule)
	case plan.HiddenSteps:
		rule.Method, rule.HideStep = "GET", true
	case plan.EmptyLists:
		rule.Method, rule.Path, rule.EmptyList = "GET", runnerList, true
	case plan.StaleLists:
		rule.Method, rule.Path, rule.StaleFor = "GET", runnerList, f.Lag.String()
	case plan.PipelinesFail:
		rule.Status = 503
		return reads(rule)
	case plan.PipelinesThrottled:
		rule.Status = 429
		return reads(rule)
	case plan.PipelinesLag:
		rule.StaleFor = f.Lag.String()
		return reads(rule)
	case plan.HooksLost, plan.HooksDoubled, plan.HooksLate:
		return nil
	}
	return []emulator.FaultRule{rule}
}

func (r *Round) failBitbucket(ctx context.Context, number int, f plan.Fault) bool {
	r.note("%s", f)
	if !r.setRules(ctx, number, injected{rules(f), deliveries(f)}) {
		return false
	}
	r.pause(ctx, f.For)
	return r.setRules(context.WithoutCancel(ctx), number, injected{})
}

// setRules sets or removes a fault's rules. If there are several faults, the first of the
// plan takes precedence.
func (r *Round) setRules(ctx context.Context, number int, rules injected) bool {
	r.ruling.Lock()
	defer r.ruling.Unlock()
	r.active[number] = rules
	var all injected
	for _, n := range slices.Sorted(maps.Keys(r.active)) {
		all.calls = append(all.calls, r.active[n].calls...)
		all.deliveries = append(all.deliveries, r.active[n].deliveries...)
	}
	if err := r.control.SetFaults(ctx, all.calls, all.deliveries...); err != nil {
		r.violate("faults were not set: %v", err)
		return false
	}
	return true
}

func (r *Round) failLeader(ctx context.Context, f plan.Fault) bool {
	one, ok := r.leader(ctx)
	if !ok {
		r.note("no leader for %s", f.Kind)
		return false
	}
	r.note("%s: %s", f, one.pod)
	switch f.Kind {
	case plan.ScalerKilled:
		one.signal(syscall.SIGKILL)
	case plan.ScalerStopped:
		one.signal(syscall.SIGTERM)
	default:
		one.api.Set(network.Hang)
		r.pause(ctx, f.For)
		one.api.Set(network.Pass)
	}
	return true
}

// change makes a group's Jobs outdated, as a new image does.
func (r *Round) change(ctx context.Context, f plan.Fault) bool {
	g := r.plan.Groups[f.Pick%len(r.plan.Groups)]
	r.note("%s: %s", f, g.Name)
	patch := fmt.Sprintf(`{"spec":{"jobTargetRef":{"template":{"metadata":{"annotations":{"chaos/changed":%q}}}}}}`, time.Now().Format(time.RFC3339Nano))
	_, err := r.suite.Dynamic.Resource(scaledJobs).Namespace(r.namespace(g.Namespace)).
		Patch(ctx, g.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		r.note("ScaledJob %s not changed: %v", g.Name, err)
	}
	return err == nil
}
