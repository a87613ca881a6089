package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

func waitingFor(name, reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func endedWith(name string, code int32, reason string, lived time.Duration) corev1.ContainerStatus {
	begun := time.Unix(1000, 0)
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Reason: reason, Message: "the last words, with a secret", StartedAt: metav1.NewTime(begun), FinishedAt: metav1.NewTime(begun.Add(lived)),
	}}}
}

// seen is a pod as the caches keep it.
func seen(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	kept, err := slim(pod.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	return kept.(*corev1.Pod) //nolint:forcetypeassert // as given
}

func TestWhyAPodWaits(t *testing.T) {
	for name, c := range map[string]struct {
		status corev1.PodStatus
		want   fleet.Cause
	}{
		"it starts": {corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "sidecar", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
			ContainerStatuses:     []corev1.ContainerStatus{waitingFor("runner", "PodInitializing", "")},
		}, fleet.Cause{}},
		"its image is pulled":           {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waitingFor("runner", "ContainerCreating", "")}}, fleet.Cause{}},
		"a pull failed and is repeated": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waitingFor("runner", "ErrImagePull", "")}}, fleet.Cause{}},
		"its image cannot be pulled": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waitingFor("runner", "ImagePullBackOff", "Back-off\npulling")}},
			fleet.Cause{Reason: "ImagePullBackOff", Message: "container runner: Back-off pulling", CannotStart: true}},
		"a container it waits for ends again and again": {corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{{
				Name:                 "docker",
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s"}},
				LastTerminationState: endedWith("", 137, "OOMKilled", time.Second).State,
			}},
			ContainerStatuses: []corev1.ContainerStatus{waitingFor("runner", "PodInitializing", "")},
		}, fleet.Cause{Reason: "CrashLoopBackOff", Message: "container docker: exit code 137 (OOMKilled)", CannotStart: true}},
		"no node has room": {corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes are available",
		}}}, fleet.Cause{Reason: "Unschedulable", Message: "0/3 nodes are available"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, waits(seen(t, &corev1.Pod{Status: c.status}))); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestAMessageOfKubernetesIsBounded(t *testing.T) {
	got := oneLine(strings.Repeat("é ", 1000))
	if len(got) > maxMessage+len("…") || strings.ToValidUTF8(got, "") != got {
		t.Errorf("got %d bytes: %q", len(got), got)
	}
}

func TestHowAJobFailed(t *testing.T) {
	on := time.Unix(2000, 0)
	failed := &batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{
		Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit", LastTransitionTime: metav1.NewTime(on),
	}}}}
	disrupted := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}
	failedPod := func(status corev1.PodStatus) *corev1.Pod {
		status.Phase = corev1.PodFailed
		return &corev1.Pod{Status: status}
	}
	for name, c := range map[string]struct {
		job  *batchv1.Job
		pod  *corev1.Pod
		want *fleet.Failure
	}{
		"it has not":                           {&batchv1.Job{}, failedPod(corev1.PodStatus{}), nil},
		"the end of its pod is not seen yet":   {failed, &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}, nil},
		"somebody deleted its pod":             {failed, nil, &fleet.Failure{On: on, Disrupted: true, Cause: fleet.Cause{Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit"}}},
		"its pod was evicted for another":      {failed, failedPod(corev1.PodStatus{Conditions: []corev1.PodCondition{disrupted}, Reason: "Preempting"}), &fleet.Failure{On: on, Disrupted: true, Cause: fleet.Cause{Reason: "Preempting"}}},
		"its runner ended, and then the rest":  {failed, failedPod(corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{endedWith("docker", 143, "Error", time.Hour)}, ContainerStatuses: []corev1.ContainerStatus{endedWith("runner", 127, "Error", 4*time.Second)}}), &fleet.Failure{On: on, Lived: 4 * time.Second, Cause: fleet.Cause{Reason: "Error", Message: "container runner: exit code 127 after 4s"}}},
		"its runner had not enough memory":     {failed, failedPod(corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{endedWith("runner", 137, "OOMKilled", time.Hour)}}), &fleet.Failure{On: on, Lived: time.Hour, Cause: fleet.Cause{Reason: "OOMKilled", Message: "container runner: exit code 137 after 1h0m0s"}}},
		"its runner's container never started": {failed, failedPod(corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "runner", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 128, Reason: "StartError", FinishedAt: metav1.NewTime(on)}}}}}), &fleet.Failure{On: on, Cause: fleet.Cause{Reason: "StartError", Message: "container runner: exit code 128 after 0s"}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := c.pod
			if pod != nil {
				pod = seen(t, pod)
			}
			if diff := cmp.Diff(c.want, failure(c.job, pod)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}
