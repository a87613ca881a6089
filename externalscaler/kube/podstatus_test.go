package kube

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatIsKeptOfAPodsStatus(t *testing.T) {
	at := metav1.NewTime(time.Unix(1000, 0))
	condition := func(kind corev1.PodConditionType) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: at}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}}
	kept := slimStatus(corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.1",
		Conditions:            []corev1.PodCondition{condition(corev1.PodInitialized), condition(corev1.PodScheduled), condition(corev1.PodReady)},
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "sidecar", Image: "large", State: running}},
		ContainerStatuses:     []corev1.ContainerStatus{endedWith("runner", 1, "Error", time.Second)},
	})
	ended := endedWith("runner", 1, "Error", time.Second)
	ended.State.Terminated.Message = "" // the last words, which may have a secret
	want := corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{condition(corev1.PodScheduled)},
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "sidecar", State: running}},
		ContainerStatuses:     []corev1.ContainerStatus{ended},
	}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestWhenAPodWasScheduledAndItsContainersStarted(t *testing.T) {
	at := func(second int64) metav1.Time { return metav1.NewTime(time.Unix(second, 0)) }
	scheduled := func(status corev1.ConditionStatus) []corev1.PodCondition {
		return []corev1.PodCondition{{Type: corev1.PodScheduled, Status: status, LastTransitionTime: at(1)}}
	}
	runs := func(name string, second int64) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(second)}}}
	}
	var never time.Time
	for name, c := range map[string]struct {
		status                     corev1.PodStatus
		scheduled, sidecar, runner time.Time
	}{
		"no node has room":    {corev1.PodStatus{Conditions: scheduled(corev1.ConditionFalse)}, never, never, never},
		"it waits for images": {corev1.PodStatus{Conditions: scheduled(corev1.ConditionTrue), ContainerStatuses: []corev1.ContainerStatus{waitingFor("runner", "PodInitializing", "")}}, at(1).Time, never, never},
		"it runs": {corev1.PodStatus{
			Conditions: scheduled(corev1.ConditionTrue), InitContainerStatuses: []corev1.ContainerStatus{runs("docker", 2), runs("sidecar", 3)},
			ContainerStatuses: []corev1.ContainerStatus{runs("other", 4), runs("runner", 5)},
		}, at(1).Time, at(3).Time, at(5).Time},
		"its runner has ended": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{endedWith("runner", 0, "Completed", time.Hour)}}, never, never, at(1000).Time},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podOf(seen(t, &corev1.Pod{Status: c.status}))
			if !pod.ScheduledOn.Equal(c.scheduled) || !pod.SidecarOn.Equal(c.sidecar) || !pod.RunnerOn.Equal(c.runner) {
				t.Errorf("got %v, %v, %v, want %v, %v, %v", pod.ScheduledOn, pod.SidecarOn, pod.RunnerOn, c.scheduled, c.sidecar, c.runner)
			}
		})
	}
}
