package kube

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestWhatTheWatchesShowIsReadOnceUntilItChanges(t *testing.T) {
	job := &batchv1.Job{ObjectMeta: meta("builds-1", "job", "ScaledJob", "builds-uid")}
	c, client := watch(t, []runtime.Object{job, pod("builds-1-a", "live", "job", corev1.PodRunning)})
	jobs, pods := c.Jobs(), c.Pods()
	if &jobs[0] != &c.Jobs()[0] || &pods[0] != &c.Pods()[0] {
		t.Error("read again, though nothing has changed")
	}
	changed := make(chan struct{}, 100)
	c.OnChange(func() { changed <- struct{}{} })
	if _, err := client.CoreV1().Pods("team").Create(t.Context(), pod("builds-1-b", "second", "job", corev1.PodRunning), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	<-changed
	if got := len(c.Pods()); got != 2 {
		t.Errorf("%d pods after the change, want 2", got)
	}
	if len(pods) != 1 {
		t.Error("what was read before has changed")
	}
}

// A snapshot reads the Jobs first. What they show must be among the pods then, also if a watch has
// brought it after the last change was counted.
func TestPodsAreReadAgainAfterTheJobs(t *testing.T) {
	job := &batchv1.Job{ObjectMeta: meta("builds-1", "job", "ScaledJob", "builds-uid")}
	c, _ := watch(t, []runtime.Object{job})
	c.kept.version.Add(1)
	if got := len(c.Pods()); got != 0 {
		t.Fatalf("%d pods, want none", got)
	}
	if err := c.pods.GetStore().Add(pod("builds-1-a", "live", "job", corev1.PodRunning)); err != nil { // it is not counted yet
		t.Fatal(err)
	}
	if jobs := c.Jobs(); jobs[0].Pod == nil || len(c.Pods()) != 1 {
		t.Errorf("%d pods with the Jobs %+v, want the pod that they show", len(c.Pods()), jobs)
	}
}
