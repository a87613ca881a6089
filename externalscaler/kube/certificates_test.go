package kube

import (
	"errors"
	"testing"

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
