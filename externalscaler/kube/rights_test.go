package kube

import (
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestAStartWithoutRightsSaysWhichAreMissing(t *testing.T) {
	client := fake.NewClientset()
	dynamicClient := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{scaledJobs: "ScaledJobList"})
	refuse := func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", nil)
	}
	client.PrependReactor("list", "pods", refuse)
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		review.Status.Allowed = review.Spec.ResourceAttributes.Resource != "pods"
		return true, review, nil
	})
	c, err := newCluster(client, dynamicClient, func(string, string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	err = c.Start(t.Context(), 50*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "may not list pods, watch pods:") {
		t.Errorf("got %v, want the missing permissions", err)
	}
}
