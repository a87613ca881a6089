package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/externalscaler/certificates"
)

// The label of all our objects.
const (
	partOfKey = "app.kubernetes.io/part-of"
	partOf    = "bitbucket-runner-scaler"
)

// CertificateStore implements certificates.Store in a Secret of one namespace.
type CertificateStore struct {
	cluster   *Cluster
	namespace string
	// name is that of the Secret, which contains the authority's key.
	name string
}

// CertificatesIn returns a store in that namespace, which is the control plane's own. The
// Secret has the name of the installation's Service, and "-tls".
func (c *Cluster) CertificatesIn(namespace, service string) CertificateStore {
	return CertificateStore{cluster: c, namespace: namespace, name: service + "-tls"}
}

// Load implements certificates.Store.
func (s CertificateStore) Load(ctx context.Context) (certificates.Pair, string, error) {
	secret, err := s.cluster.client.CoreV1().Secrets(s.namespace).Get(ctx, s.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return certificates.Pair{}, "", nil
	}
	if err != nil {
		return certificates.Pair{}, "", fmt.Errorf("read Secret %s/%s: %w", s.namespace, s.name, err)
	}
	return certificates.Pair{
		Bundle: secret.Data[certificates.BundleKey], AuthorityKey: secret.Data[certificates.AuthorityKeyKey],
		Chain: secret.Data[certificates.ChainKey], Key: secret.Data[certificates.KeyKey],
	}, secret.ResourceVersion, nil
}

// Save implements certificates.Store. The version is the Secret's resource version.
func (s CertificateStore) Save(ctx context.Context, pair certificates.Pair, version string) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Namespace: s.namespace, ResourceVersion: version, Labels: map[string]string{partOfKey: partOf}},
		Type:       corev1.SecretTypeOpaque,
		Data: map[string][]byte{
			certificates.BundleKey: pair.Bundle, certificates.AuthorityKeyKey: pair.AuthorityKey,
			certificates.ChainKey: pair.Chain, certificates.KeyKey: pair.Key,
		},
	}
	var err error
	if secrets := s.cluster.client.CoreV1().Secrets(s.namespace); version == "" {
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		return fmt.Errorf("write Secret %s/%s: %w", s.namespace, s.name, certificates.ErrConflict)
	case err != nil:
		return fmt.Errorf("write Secret %s/%s: %w", s.namespace, s.name, err)
	}
	return nil
}
