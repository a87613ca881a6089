package kube

import (
	"errors"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// trusted is what KEDA and the sidecars read in a namespace; empty if nothing.
func trusted(t *testing.T, client kubernetes.Interface, namespace string) string {
	t.Helper()
	all, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range all.Items {
		return all.Items[i].Data["ca.crt"]
	}
	return ""
}

func TestPublishReplacesOnlyOurConfigMaps(t *testing.T) {
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "theirs", Name: runnerv1.AuthorityConfigMap}, Data: map[string]string{"ca.crt": "theirs"}}
	c, client := watch(t, []runtime.Object{theirs})
	ours := c.AuthorityMaps("keda.k8s.1")
	for _, bundle := range []string{"one", "two", "two"} {
		if err := ours.Publish(t.Context(), "team", []byte(bundle)); err != nil {
			t.Fatal(err)
		}
		if got := trusted(t, client, "team"); got != bundle+"\n" {
			t.Errorf("got %q, want %s", got, bundle)
		}
	}
	if err := ours.Publish(t.Context(), "theirs", []byte("ours")); !errors.Is(err, errNotOurs) {
		t.Errorf("someone else's: got %v", err)
	}
	if namespaces, err := ours.Published(t.Context()); err != nil || !slices.Equal(namespaces, []string{"team"}) {
		t.Errorf("published in %v, %v", namespaces, err)
	}
	for _, namespace := range []string{"team", "theirs", "none"} {
		if err := ours.Withdraw(t.Context(), namespace); err != nil {
			t.Error(err)
		}
	}
	if got := trusted(t, client, "team") + trusted(t, client, "theirs"); got != "theirs" {
		t.Errorf("left: %q; want only theirs", got)
	}
}

func TestInstallationsShareANamespaceAndWithdrawOnlyTheirOwn(t *testing.T) {
	c, client := watch(t, nil)
	one, two := c.AuthorityMaps("keda.k8s.1"), c.AuthorityMaps("keda.k8s.2")
	publish := func(a AuthorityMaps, namespace, bundle string) {
		t.Helper()
		if err := a.Publish(t.Context(), namespace, []byte(bundle)); err != nil {
			t.Fatal(err)
		}
	}
	publish(one, "shared", "first")
	publish(two, "shared", "second\n")
	publish(two, "second's", "second\n")
	publish(one, "shared", "first") // its next look leaves the other's
	if got := trusted(t, client, "shared"); got != "first\nsecond\n" {
		t.Errorf("got %q, want both authorities", got)
	}
	if got, err := one.Published(t.Context()); err != nil || !slices.Equal(got, []string{"shared"}) {
		t.Errorf("the first is published in %v, %v: it would withdraw from what is not its own", got, err)
	}
	if err := one.Withdraw(t.Context(), "second's"); err != nil {
		t.Fatal(err)
	}
	if err := one.Withdraw(t.Context(), "shared"); err != nil {
		t.Fatal(err)
	}
	if a, b := trusted(t, client, "shared"), trusted(t, client, "second's"); a != "second\n" || b != "second\n" {
		t.Errorf("after the first was withdrawn: got %q and %q, want the second's authority in both", a, b)
	}
	if err := two.Withdraw(t.Context(), "shared"); err != nil {
		t.Fatal(err)
	}
	if got := trusted(t, client, "shared"); got != "" {
		t.Errorf("after both were withdrawn: got %q", got)
	}
}

func TestAnAuthorityOfAnOlderVersionIsReplaced(t *testing.T) {
	old := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: runnerv1.AuthorityConfigMap, Labels: map[string]string{partOfKey: partOf}},
		Data:       map[string]string{"ca.crt": "old"},
	}
	c, client := watch(t, []runtime.Object{old})
	ours := c.AuthorityMaps("keda.k8s.1")
	if err := ours.Withdraw(t.Context(), "team"); err != nil || trusted(t, client, "team") != "old" {
		t.Errorf("it was withdrawn though it may be another installation's: %v", err)
	}
	if err := ours.Publish(t.Context(), "team", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got := trusted(t, client, "team"); got != "new\n" {
		t.Errorf("got %q, want the new one", got)
	}
}
