package kube

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	k8stesting "k8s.io/client-go/testing"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

func TestDeleteJobDeletesOnlyTheJobOfThatUID(t *testing.T) {
	c, client := watch(t, []runtime.Object{&batchv1.Job{ObjectMeta: meta("builds-1", "job", "ScaledJob", "builds-uid")}})
	if err := c.DeleteJob(t.Context(), "team", "builds-1", "job"); err != nil {
		t.Fatal(err)
	}
	if deleted, err := c.DeleteUnchangedJob(t.Context(), fleet.Job{Namespace: "team", Name: "builds-1", UID: "job", ResourceVersion: "7"}); err != nil || !deleted {
		t.Errorf("as it was read: got %v, %v", deleted, err)
	}
	version := "7"
	background, uid := metav1.DeletePropagationBackground, types.UID("job")
	want := []metav1.DeleteOptions{
		{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}},
		{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}},
	}
	var got []metav1.DeleteOptions
	for _, action := range client.Actions() {
		if deletion, ok := action.(k8stesting.DeleteAction); ok {
			got = append(got, deletion.GetDeleteOptions())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deleted: want -, got +:\n%s", diff)
	}
	for name, c := range map[string]struct {
		answer error
		fails  bool
	}{
		"gone":                 {answer: apierrors.NewNotFound(batchv1.Resource("jobs"), "builds-1")},
		"another has its name": {answer: apierrors.NewConflict(batchv1.Resource("jobs"), "builds-1", errors.New("the UID differs"))},
		"not allowed":          {answer: apierrors.NewForbidden(batchv1.Resource("jobs"), "builds-1", nil), fails: true},
	} {
		refusing, client := watch(t, nil)
		client.PrependReactor("delete", "jobs", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, c.answer })
		if err := refusing.DeleteJob(t.Context(), "team", "builds-1", "job"); (err != nil) != c.fails {
			t.Errorf("%s: got %v", name, err)
		}
		deleted, err := refusing.DeleteUnchangedJob(t.Context(), fleet.Job{Namespace: "team", Name: "builds-1", UID: "job", ResourceVersion: "7"})
		if want := apierrors.IsNotFound(c.answer); deleted != want || (err != nil) != c.fails {
			t.Errorf("%s, if unchanged: got %v, %v, want %v", name, deleted, err, want)
		}
	}
}

func TestJobsReturnsTheGenerationAndWhetherThePodIsDeleting(t *testing.T) {
	job := &batchv1.Job{ObjectMeta: meta("builds-1", "job", "ScaledJob", "builds-uid")}
	job.Annotations = map[string]string{generationAnnotation: "3", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
	leaving := pod("builds-1-a", "live", "job", corev1.PodRunning)
	leaving.DeletionTimestamp, leaving.Finalizers = &noon, []string{"batch.kubernetes.io/job-tracking"}
	scaledJob := scaledJobObject("builds", "builds-uid", trigger("external", "scaler.system:9090"))
	scaledJob.SetGeneration(4)
	c, _ := watch(t, []runtime.Object{job, leaving}, scaledJob)
	if got := c.Jobs(); len(got) != 1 || got[0].Generation != "3" || !got[0].Pod.Deleting {
		t.Errorf("got %+v", got)
	}
	if got := c.ScaledJobs(); len(got) != 1 || got[0].Generation != "4" {
		t.Errorf("got %+v", got)
	}
}
