package kube

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

func replicaPod(name string, leader bool) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: name, Labels: map[string]string{"app": "scaler"}}}
	if leader {
		pod.Labels[RoleLabel] = RoleLeader
	}
	return pod
}

// patched returns the pods patched so far, in order.
func patched(client *fake.Clientset) []string {
	var names []string
	for _, action := range client.Actions() {
		if patch, ok := action.(k8stesting.PatchAction); ok {
			names = append(names, patch.GetName())
		}
	}
	return names
}

func TestLabelIsFirstRemovedFromTheOthers(t *testing.T) {
	client := fake.NewClientset(replicaPod("old", true), replicaPod("older", true), replicaPod("new", false), replicaPod("standby", false))
	role := NewLeaderService(client, "system", "new")
	for range 2 { // the second call changes nothing
		if err := role.PointHere(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := patched(client)
	if len(got) != 3 || got[2] != "new" || !slices.Contains(got, "old") || !slices.Contains(got, "older") {
		t.Errorf("patched %q, want old and older, then new, each once", got)
	}
	pods, err := client.CoreV1().Pods("system").List(t.Context(), metav1.ListOptions{LabelSelector: RoleLabel})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Name != "new" || pods.Items[0].Labels["app"] != "scaler" {
		t.Errorf("labelled: %+v, %v", pods.Items, err)
	}
	if err := role.Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pods, err = client.CoreV1().Pods("system").List(t.Context(), metav1.ListOptions{LabelSelector: RoleLabel}); err != nil || len(pods.Items) != 0 {
		t.Errorf("still labelled: %+v, %v", pods.Items, err)
	}
}

func TestAnotherInstallationOfTheNamespaceKeepsItsLeader(t *testing.T) {
	theirs, old, here := replicaPod("theirs", true), replicaPod("old", true), replicaPod("new", false)
	theirs.Labels[instanceLabel], old.Labels[instanceLabel], here.Labels[instanceLabel] = "second", "first", "first"
	client := fake.NewClientset(theirs, old, here)
	if err := NewLeaderService(client, "system", "new").PointHere(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"old", "new"}, patched(client)); diff != "" {
		t.Errorf("patched: want -, got +:\n%s", diff)
	}
}

func TestLabelIsNotSetWhileAnotherPodKeepsIt(t *testing.T) {
	client := fake.NewClientset(replicaPod("old", true), replicaPod("new", false))
	refuse := true
	client.PrependReactor("patch", "pods", func(action k8stesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(k8stesting.PatchAction)
		return ok && refuse && patch.GetName() == "old", nil, apierrors.NewInternalError(errors.New("etcd"))
	})
	role := NewLeaderService(client, "system", "new")
	if err := role.PointHere(t.Context()); err == nil {
		t.Error("got no error")
	}
	if diff := cmp.Diff([]string{"old"}, patched(client)); diff != "" {
		t.Errorf("patched: want -, got +:\n%s", diff)
	}
	refuse = false
	if err := role.PointHere(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"old", "old", "new"}, patched(client)); diff != "" {
		t.Errorf("patched: want -, got +:\n%s", diff)
	}
}

func TestDeletedPodDoesNotBlockTheLabel(t *testing.T) {
	client := fake.NewClientset(replicaPod("old", true), replicaPod("new", false))
	client.PrependReactor("patch", "pods", func(action k8stesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(k8stesting.PatchAction)
		return ok && patch.GetName() == "old", nil, apierrors.NewNotFound(corev1.Resource("pods"), "old")
	})
	if err := NewLeaderService(client, "system", "new").PointHere(t.Context()); err != nil {
		t.Error(err)
	}
	if err := NewLeaderService(client, "system", "elsewhere").PointHere(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("without a pod of this process: got %v", err)
	}
}
