package kube

import (
	"errors"
	"slices"
	"testing"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bitbucket-runner-scaler/externalscaler/certificates"
)

func TestCertificatesAreStoredOncePerVersion(t *testing.T) {
	c, _ := watch(t, nil)
	store := c.CertificatesIn("system")
	pair, version, err := store.Load(t.Context())
	if err != nil || len(pair.Bundle) != 0 || version != "" {
		t.Fatalf("before the first: got %v, %q, %v", pair, version, err)
	}
	first := certificates.Pair{Bundle: []byte("b"), AuthorityKey: []byte("a"), Chain: []byte("c"), Key: []byte("k")}
	if err := store.Save(t.Context(), first, version); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(t.Context(), certificates.Pair{Bundle: []byte("second")}, version); !errors.Is(err, certificates.ErrConflict) {
		t.Errorf("a second create: got %v, want %v", err, certificates.ErrConflict)
	}
	got, _, err := store.Load(t.Context())
	if err != nil || string(got.Bundle) != "b" || string(got.AuthorityKey) != "a" || string(got.Chain) != "c" || string(got.Key) != "k" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestPublishReplacesOnlyOurConfigMaps(t *testing.T) {
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "theirs", Name: runnerv1.AuthorityConfigMap}, Data: map[string]string{"ca.crt": "theirs"}}
	c, client := watch(t, []runtime.Object{theirs})
	for _, bundle := range []string{"one", "two", "two"} {
		if err := c.Publish(t.Context(), "team", []byte(bundle)); err != nil {
			t.Fatal(err)
		}
		published, err := client.CoreV1().ConfigMaps("team").Get(t.Context(), runnerv1.AuthorityConfigMap, metav1.GetOptions{})
		if err != nil || published.Data[certificates.BundleKey] != bundle {
			t.Errorf("got %v, %v, want %s", published, err, bundle)
		}
	}
	if err := c.Publish(t.Context(), "theirs", []byte("ours")); !errors.Is(err, errNotOurs) {
		t.Errorf("someone else's: got %v", err)
	}
	if namespaces, err := c.Published(t.Context()); err != nil || !slices.Equal(namespaces, []string{"team"}) {
		t.Errorf("published in %v, %v", namespaces, err)
	}
	for _, namespace := range []string{"team", "theirs", "none"} {
		if err := c.Withdraw(t.Context(), namespace); err != nil {
			t.Error(err)
		}
	}
	left, err := client.CoreV1().ConfigMaps(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) != 1 || left.Items[0].Data["ca.crt"] != "theirs" {
		t.Errorf("left: %v, %v; want only theirs", left, err)
	}
}
