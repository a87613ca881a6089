package node

import (
	"context"
	"encoding/json"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// retryEvery is the time between two tries to write a status if the API server is
// unreachable.
const retryEvery = time.Second

// report writes the pod's phase to the API server. It tries again until that succeeds or
// the node ends.
func (p *pod) report(ctx context.Context, phase corev1.PodPhase, message string) {
	now := metav1.Now()
	ready := corev1.ConditionFalse
	state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: now, Message: message}}
	switch phase {
	case corev1.PodRunning:
		ready = corev1.ConditionTrue
		state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
	case corev1.PodFailed:
		state.Terminated.ExitCode = 1
	}
	name := p.object.Spec.Containers[0].Name
	status := corev1.PodStatus{
		Phase: phase, StartTime: &now, HostIP: "127.0.0.1", PodIP: "127.0.0.1",
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: ready, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: name, Ready: phase == corev1.PodRunning, Started: ptr.To(phase == corev1.PodRunning), State: state}},
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.object.UID}, "status": status})
	if err != nil {
		p.log.Info("status not encoded", zap.Error(err))
		return
	}
	p.insist(ctx, "report the pod's status", func(ctx context.Context) error {
		_, err := p.node.config.Client.CoreV1().Pods(p.object.Namespace).
			Patch(ctx, p.object.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	})
}

// finish reports the pod's end, and removes its object if it was deleted.
func (p *pod) finish(ctx context.Context, succeeded bool, err error) {
	phase, message := corev1.PodSucceeded, ""
	if !succeeded {
		phase = corev1.PodFailed
	}
	if err != nil {
		message = err.Error()
	}
	p.report(ctx, phase, message)
	select {
	case <-p.deleted:
	case <-p.killed:
		return
	case <-ctx.Done():
		return
	}
	p.insist(ctx, "remove the pod", func(ctx context.Context) error { return p.node.remove(ctx, p.object) })
}

// insist tries until it succeeds, or until the object or the node no longer exists.
func (p *pod) insist(ctx context.Context, what string, do func(context.Context) error) {
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		err := do(ctx)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || ctx.Err() != nil {
			return
		}
		p.log.Info("the API server did not take it", zap.String("what", what), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
