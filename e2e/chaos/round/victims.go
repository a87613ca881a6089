package round

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"bitbucket-runner-scaler/externalscaler/scope"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/node"
	"bitbucket-runner-scaler/e2e/chaos/plan"
)

// victim is a pod and its node.
type victim struct {
	node *node.Node
	pod  *corev1.Pod
}

// victims returns the running pods in the order of their groups and ages. If busy runners
// are requested and there are any, it returns only their pods.
func (r *Round) victims(ctx context.Context, busy bool) []victim {
	var all []victim
	for _, n := range r.present() {
		for _, pod := range n.Running() {
			all = append(all, victim{n, pod})
		}
	}
	slices.SortFunc(all, func(a, b victim) int {
		return cmp.Or(cmp.Compare(a.pod.Labels[scaledJobLabel], b.pod.Labels[scaledJobLabel]),
			a.pod.CreationTimestamp.Compare(b.pod.CreationTimestamp.Time), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	if !busy {
		return all
	}
	state, err := r.control.State(ctx)
	if err != nil {
		return all
	}
	working := map[string]struct{}{}
	for _, runner := range state.Runners {
		if runner.StepUUID != "" {
			working[runner.Name] = struct{}{}
		}
	}
	preferred := slices.DeleteFunc(slices.Clone(all), func(v victim) bool { _, ok := working[runnerName(v.pod)]; return !ok })
	if len(preferred) > 0 {
		return preferred
	}
	return all
}

// scaledJobLabel is KEDA's label of a ScaledJob's pods.
const scaledJobLabel = "scaledjob.keda.sh/name"

func runnerName(pod *corev1.Pod) string { return scope.RunnerName(pod.Name, string(pod.UID)) }

func (r *Round) failPod(ctx context.Context, f plan.Fault) bool {
	from := r.victims(ctx, f.Busy)
	if len(from) == 0 {
		r.note("no pod for %s", f.Kind)
		return false
	}
	v := from[f.Pick%len(from)]
	r.note("%s: %s, runner %s", f, v.pod.Name, runnerName(v.pod))
	switch f.Kind {
	case plan.SidecarKilled:
		return v.node.KillSidecar(v.pod.UID)
	case plan.PodDeleted:
		return r.deletePod(ctx, v.pod)
	default:
		if !v.node.KillPod(ctx, v.pod.UID) {
			return false
		}
		r.bury(ctx, v.pod)
		return true
	}
}

func (r *Round) deletePod(ctx context.Context, pod *corev1.Pod) bool {
	err := r.suite.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	return err == nil
}

// bury records that the processes of a pod have ended, which Bitbucket may not know yet.
func (r *Round) bury(ctx context.Context, pods ...*corev1.Pod) {
	names := map[string]struct{}{}
	for _, pod := range pods {
		names[runnerName(pod)] = struct{}{}
	}
	state, err := r.control.State(ctx)
	if err != nil {
		r.violate("which runners were killed is not known: %v", err)
		return
	}
	for _, runner := range state.Runners {
		if _, ok := names[runner.Name]; !ok {
			continue
		}
		r.mu.Lock()
		r.killed[runner.UUID] = struct{}{}
		r.mu.Unlock()
		r.note("killed runner %s (%s), step %q", runner.Name, runner.UUID, runner.StepUUID)
		if err := r.control.SetRunner(ctx, runner.UUID, emulator.ActionGone, ""); err != nil {
			r.note("runner %s not marked: %v", runner.UUID, err) // it may just have been removed
		}
	}
}

// goneFor is how long a node is lost before its objects are deleted.
const goneFor = 20 * time.Second

func (r *Round) failNode(ctx context.Context, f plan.Fault) bool {
	nodes := r.present()
	n := nodes[f.Pick%len(nodes)]
	if f.Kind == plan.NodeDrained {
		r.note("%s: %s", f, n.Name())
		return r.drain(ctx, n)
	}
	r.mu.Lock()
	i := slices.Index(r.nodes, n)
	if i < 0 { // another fault has removed it
		r.mu.Unlock()
		return false
	}
	r.nodes = slices.Delete(r.nodes, i, i+1)
	r.mu.Unlock()
	lost := n.Vanish()
	r.note("%s: %s with %d pods", f, n.Name(), len(lost))
	r.bury(ctx, lost...)
	if err := r.addNode(ctx); err != nil {
		r.violate("no node in the place of %s: %v", n.Name(), err)
	}
	r.pause(ctx, goneFor)
	if err := r.until(ctx, "a gone node's objects to be deleted", time.Minute, n.Unregister); err != nil {
		r.violate("%v", err)
	}
	return true
}

// drain evicts all pods of a node, which then continues, as with kubectl drain and uncordon.
func (r *Round) drain(ctx context.Context, n *node.Node) bool {
	var errs []error
	for _, pod := range n.Running() {
		err := r.suite.Client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		r.note("drain: %v", err)
		return false
	}
	return true
}
