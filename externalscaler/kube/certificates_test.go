package kube

import (
	"errors"
	"testing"

	"bitbucket-runner-scaler/externalscaler/certificates"
	"bitbucket-runner-scaler/externalscaler/scope"
)

func TestCertificatesAreStoredOncePerVersion(t *testing.T) {
	c, _ := watch(t, nil)
	store := c.CertificatesIn("system", "scaler")
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

func TestInstallationsOfOneNamespaceStoreApart(t *testing.T) {
	c, _ := watch(t, nil)
	first, second := c.CertificatesIn("system", "first"), c.CertificatesIn("system", "second")
	if err := first.Save(t.Context(), certificates.Pair{Key: []byte("k")}, ""); err != nil {
		t.Fatal(err)
	}
	if pair, _, err := second.Load(t.Context()); err != nil || len(pair.Key) != 0 {
		t.Errorf("the second has the first's certificate: %v, %v", pair, err)
	}
	scopes := []scope.RegisteredScope{{Namespace: "team", Credentials: "default", Workspace: "{w}"}}
	if err := c.ScopesIn("system", "first").SaveScopes(t.Context(), scopes); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ScopesIn("system", "second").LoadScopes(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("the second has the first's scopes: %v, %v", got, err)
	}
}
