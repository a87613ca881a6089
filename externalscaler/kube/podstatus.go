package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// scheduledOn returns when a pod was given to a node; zero if it was not.
func scheduledOn(pod *corev1.Pod) time.Time {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionTrue {
			return condition.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// startedOn returns when the container of that name started; zero if it has not, or if it
// waits to be started again.
func startedOn(containers []corev1.ContainerStatus, name string) time.Time {
	for _, container := range containers {
		switch state := container.State; {
		case container.Name != name:
		case state.Running != nil:
			return state.Running.StartedAt.Time
		case state.Terminated != nil:
			return state.Terminated.StartedAt.Time
		}
	}
	return time.Time{}
}

// slimStatus keeps of a pod's status what this package reads.
func slimStatus(status corev1.PodStatus) corev1.PodStatus {
	slim := corev1.PodStatus{
		Phase: status.Phase, Reason: status.Reason, Message: status.Message,
		ContainerStatuses: slimStatuses(status.ContainerStatuses), InitContainerStatuses: slimStatuses(status.InitContainerStatuses),
	}
	for _, condition := range status.Conditions {
		if condition.Type == corev1.PodScheduled || condition.Type == corev1.DisruptionTarget {
			slim.Conditions = append(slim.Conditions, condition)
		}
	}
	return slim
}

// slimStatuses keeps the names of containers, their states, and how they ended before.
// Messages of ended containers are left out: they may be parts of logs.
func slimStatuses(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	slim := func(ended *corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
		if ended == nil {
			return nil
		}
		return &corev1.ContainerStateTerminated{ExitCode: ended.ExitCode, Reason: ended.Reason, StartedAt: ended.StartedAt, FinishedAt: ended.FinishedAt}
	}
	kept := make([]corev1.ContainerStatus, 0, len(all))
	for _, container := range all {
		kept = append(kept, corev1.ContainerStatus{
			Name: container.Name,
			State: corev1.ContainerState{
				Waiting: container.State.Waiting, Running: container.State.Running, Terminated: slim(container.State.Terminated),
			},
			LastTerminationState: corev1.ContainerState{Terminated: slim(container.LastTerminationState.Terminated)},
		})
	}
	return kept
}
