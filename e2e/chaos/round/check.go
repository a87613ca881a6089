package round

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// The limits of the waits, on the round's clock. They are much longer than what is
// promised, because only a condition that never holds is a violation. The record contains
// the real times.
const (
	restPatience  = 15 * time.Minute
	leavePatience = 10 * time.Minute
)

// rest waits until everything is at rest: no step is open, and each group has its number
// of runners without load, each with one Job and one pod. All groups must be at rest at
// the same time, except groups whose runners are replaced for their age, which must have
// been at rest once.
func (r *Round) rest(ctx context.Context) error {
	begun := time.Now()
	r.note("load and faults are over")
	rested := map[string]bool{}
	err := r.until(ctx, "rest", restPatience, func(ctx context.Context) error {
		state, err := r.control.State(ctx)
		if err != nil {
			return err
		}
		for _, step := range state.Steps {
			if open(step) && step.Outcome != emulator.OutcomePaused && !behindGate(state, step) {
				return fmt.Errorf("step %s for %v is %s on %q", step.UUID, step.Labels, step.Outcome, step.RunnerUUID)
			}
		}
		unrest := []error{r.haunted()}
		for _, g := range r.plan.Groups {
			if rested[g.Name] && g.MaxAge > 0 {
				continue
			}
			if err := r.matched(ctx, state, g); err != nil {
				unrest = append(unrest, err)
			} else {
				rested[g.Name] = true
			}
		}
		return errors.Join(unrest...)
	})
	r.record.Rest = time.Since(begun) * time.Duration(r.plan.Rate)
	if err != nil {
		r.violate("not at rest %v after the faults: %v", r.record.Rest.Round(time.Second), err)
	}
	return ctx.Err()
}

// matched compares the runners of a group with its Jobs and pods.
func (r *Round) matched(ctx context.Context, state emulator.State, g plan.Group) error {
	jobs, pods, err := r.objects(ctx, g)
	if err != nil {
		return err
	}
	want := map[string]struct{}{}
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			return fmt.Errorf("pod %s of %s is being deleted", pod.Name, g.Name)
		}
		want[runnerName(&pod)] = struct{}{}
	}
	runners := r.runnersOf(state, g)
	for _, runner := range runners {
		if _, ok := want[runner.Name]; !ok {
			return fmt.Errorf("runner %s of %s (%s) has no pod", runner.Name, g.Name, runner.Status)
		}
		if runner.Status != "ONLINE" {
			return fmt.Errorf("runner %s of %s is %s", runner.Name, g.Name, runner.Status)
		}
		delete(want, runner.Name)
	}
	if len(want) > 0 {
		return fmt.Errorf("pods of %s without a runner: %v", g.Name, slices.Sorted(maps.Keys(want)))
	}
	if len(jobs) != g.Rest() || len(runners) != g.Rest() {
		return fmt.Errorf("group %s has %d Jobs and %d runners, want %d", g.Name, len(jobs), len(runners), g.Rest())
	}
	return nil
}

// runnersOf returns a group's runners at Bitbucket.
func (r *Round) runnersOf(state emulator.State, g plan.Group) []emulator.RunnerInfo {
	return slices.DeleteFunc(slices.Clone(state.Runners), func(runner emulator.RunnerInfo) bool {
		return !slices.Contains(runner.Labels, r.label(g))
	})
}

// objects returns a group's unfinished Jobs and pods.
func (r *Round) objects(ctx context.Context, g plan.Group) (jobs []batchv1.Job, pods []corev1.Pod, err error) {
	options := metav1.ListOptions{LabelSelector: scaledJobLabel + "=" + g.Name}
	jobList, err := r.suite.Client.BatchV1().Jobs(r.namespace(g.Namespace)).List(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	podList, err := r.suite.Client.CoreV1().Pods(r.namespace(g.Namespace)).List(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	ended := func(job batchv1.Job) bool {
		return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
			return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
		})
	}
	over := func(pod corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	}
	return slices.DeleteFunc(jobList.Items, ended), slices.DeleteFunc(podList.Items, over), nil
}

// leave deletes the groups and waits until nothing of them is left.
func (r *Round) leave(ctx context.Context) error {
	r.note("the groups are deleted")
	for _, g := range r.plan.Groups {
		err := r.suite.Dynamic.Resource(scaledJobs).Namespace(r.namespace(g.Namespace)).Delete(ctx, g.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete group %s: %w", g.Name, err)
		}
	}
	if err := r.until(ctx, "nothing to be left", leavePatience, r.left); err != nil {
		r.violate("left over: %v", err)
	}
	return ctx.Err()
}

func (r *Round) left(ctx context.Context) error {
	state, err := r.control.State(ctx)
	if err != nil {
		return err
	}
	for _, g := range slices.Concat(r.plan.Groups, r.crashed) {
		if runners := r.runnersOf(state, g); len(runners) > 0 {
			return fmt.Errorf("%d runners of %s, such as %s (%s)", len(runners), g.Name, runners[0].Name, runners[0].Status)
		}
		jobs, pods, err := r.objects(ctx, g)
		if err != nil {
			return err
		}
		if len(jobs)+len(pods) > 0 {
			return fmt.Errorf("%d Jobs and %d pods of %s", len(jobs), len(pods), g.Name)
		}
	}
	return nil
}

// judge checks the invariants against the record.
func (r *Round) judge(ctx context.Context) error {
	state, err := r.control.State(ctx)
	if err != nil {
		return fmt.Errorf("judge: %w", err)
	}
	for _, one := range r.replicas {
		one.mu.Lock()
		r.record.ScalerStarts += one.starts
		one.mu.Unlock()
	}
	counters := state.Counters
	if n := counters.BusyRunnersDeleted; n > 0 {
		r.violate("%d busy runners were deleted", n)
	}
	r.judgeSteps(state)
	r.judgePeaks(counters)
	r.judgeForeign(state)
	return errors.Join(r.judgeLogs())
}

// judgeSteps checks that exactly the steps on runners that the round killed are lost.
func (r *Round) judgeSteps(state emulator.State) {
	lostCauses := []string{emulator.CauseRunnerDeleted, emulator.CauseDisconnected, emulator.CauseProcessGone}
	lost, retried := 0, 0
	for _, step := range state.Steps {
		r.record.Steps++
		retried += step.Retries
		_, killed := r.killed[step.RunnerUUID]
		isLost := slices.Contains(lostCauses, step.Cause)
		switch {
		case step.Outcome == emulator.OutcomePassed:
			r.record.Passed++
		case step.Cause == emulator.CauseStopped:
			r.record.Stopped++
			if _, ok := r.stopped[step.PipelineUUID]; !ok {
				r.violate("step %s was stopped, by nobody here", step.UUID)
			}
		case step.Cause == emulator.CauseNoRunner:
			r.record.NoRunner++
		case step.Cause == emulator.CauseStepFailed && failsAsPlanned(step):
			r.record.Failed++
		case step.Outcome == emulator.OutcomeNotRun || step.Outcome == emulator.OutcomeSkipped || open(step):
			r.record.NotReached++ // open ones are behind a gate, as rest has seen
		case isLost && killed:
			lost++
		default:
			r.violate("step %s for %v on %s: %s %s", step.UUID, step.Labels, step.RunnerUUID, step.Outcome, step.Cause)
		}
	}
	r.record.LostToKills = lost
	total := 0
	for _, n := range state.Counters.StepsLost {
		total += n
	}
	if total < lost || total > lost+retried { // a step that is retried keeps no cause
		r.violate("%d steps lost, %d of them to the round's own kills: %v", total, lost, state.Counters.StepsLost)
	}
	taken := false
	for kind := range r.record.Faults {
		taken = taken || kind.TakesRunners()
	}
	if r.record.NoRunner > 0 && !taken {
		r.violate("%d steps found no runner online, and no fault took any away", r.record.NoRunner)
	}
}

func (r *Round) judgePeaks(counters emulator.Counters) {
	for _, g := range slices.Concat(r.plan.Groups, r.crashed) {
		for what, peaks := range map[string]map[string]int{"online": counters.PeakOnline, "alive": counters.PeakAlive} {
			for set, n := range peaks {
				if slices.Contains(strings.Split(set, ","), r.label(g)) && n > g.Max {
					r.violate("%d runners of %s were %s at once, max is %d", n, g.Name, what, g.Max)
				}
			}
		}
	}
	for scope, n := range counters.PeakRegistered {
		if n > 100 {
			r.violate("%d runners were registered in %s at once", n, scope)
		}
	}
}

func (r *Round) judgeForeign(state emulator.State) {
	seen := map[string]emulator.RunnerInfo{}
	for _, runner := range state.Runners {
		seen[runner.UUID] = runner
	}
	for uuid, f := range r.foreign {
		runner, ok := seen[uuid]
		if !ok {
			r.violate("a runner of others in %s was deleted", f.path)
		} else if runner.Status != f.status || f.busy != (runner.StepUUID != "") {
			r.violate("a runner of others, %s, is %s with step %q, was %s", runner.Name, runner.Status, runner.StepUUID, f.status)
		}
	}
}

// failsAsPlanned reports whether the plan has steps of that name fail.
func failsAsPlanned(step emulator.StepInfo) bool { return plan.Results()[step.Name] > 0 }

// behindGate reports whether a step waits for a gate of its pipeline that nobody has opened.
func behindGate(state emulator.State, step emulator.StepInfo) bool {
	return step.Outcome == emulator.OutcomeWaiting && slices.ContainsFunc(state.Steps, func(other emulator.StepInfo) bool {
		return other.PipelineUUID == step.PipelineUUID && other.Outcome == emulator.OutcomePaused
	})
}
