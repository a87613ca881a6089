package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// maxMessage bounds a message of Kubernetes, in bytes.
const maxMessage = 300

// oneLine returns a message in one line of bounded length.
func oneLine(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	return message
}

// unremarkable are the reasons for which a container waits while its pod starts. The last
// one is that of a pull that has just failed: ImagePullBackOff follows.
var unremarkable = []string{"", "ContainerCreating", "PodInitializing", "ErrImagePull"}

// waits returns why a pod does not run, as its status tells.
func waits(pod *corev1.Pod) fleet.Cause {
	for _, container := range statuses(pod) {
		waiting := container.State.Waiting
		if waiting == nil || slices.Contains(unremarkable, waiting.Reason) {
			continue
		}
		message := fmt.Sprintf("container %s: %s", container.Name, waiting.Message)
		if last := container.LastTerminationState.Terminated; last != nil {
			message = fmt.Sprintf("container %s: exit code %d (%s)", container.Name, last.ExitCode, last.Reason)
		}
		return fleet.Cause{Reason: waiting.Reason, Message: oneLine(message), CannotStart: true}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return fleet.Cause{Reason: condition.Reason, Message: oneLine(condition.Message)}
		}
	}
	return fleet.Cause{}
}

// statuses are those of a pod's containers, in the order in which they start.
func statuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}

// failure returns how a Job failed; nil if it has not, or if its pod's status does not
// show the end yet.
func failure(job *batchv1.Job, pod *corev1.Pod) *fleet.Failure {
	at := slices.IndexFunc(job.Status.Conditions, func(condition batchv1.JobCondition) bool {
		return condition.Type == batchv1.JobFailed && condition.Status == corev1.ConditionTrue
	})
	if at < 0 {
		return nil
	}
	condition := job.Status.Conditions[at]
	failed := &fleet.Failure{
		On: condition.LastTransitionTime.Time, Disrupted: true,
		Cause: fleet.Cause{Reason: condition.Reason, Message: oneLine(condition.Message)},
	}
	if pod == nil {
		return failed // somebody deleted the pod: that of a Job that fails by itself is kept
	}
	if !ended(pod) {
		return nil
	}
	failed.Disrupted = pod.DeletionTimestamp != nil || slices.ContainsFunc(pod.Status.Conditions, func(condition corev1.PodCondition) bool {
		return condition.Type == corev1.DisruptionTarget && condition.Status == corev1.ConditionTrue
	})
	if pod.Status.Reason != "" { // such as Evicted
		failed.Cause = fleet.Cause{Reason: pod.Status.Reason, Message: oneLine(pod.Status.Message)}
	}
	for _, container := range pod.Status.ContainerStatuses {
		if last := container.State.Terminated; last != nil {
			failed.Lived = max(failed.Lived, lived(last))
		}
	}
	// A container of the pod that never started has no end, and those that end after the
	// runner are no cause.
	for _, container := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if last := container.State.Terminated; last != nil && last.ExitCode != 0 {
			failed.Cause = fleet.Cause{
				Reason:  cmp.Or(last.Reason, "Error"),
				Message: fmt.Sprintf("container %s: exit code %d after %v", container.Name, last.ExitCode, lived(last).Round(time.Second)),
			}
			break
		}
	}
	return failed
}

// lived is how long a container ran; 0 if it never started.
func lived(ended *corev1.ContainerStateTerminated) time.Duration {
	if ended.StartedAt.IsZero() {
		return 0
	}
	return max(0, ended.FinishedAt.Sub(ended.StartedAt.Time))
}
