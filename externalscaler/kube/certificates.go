package kube

import (
	"context"
	"errors"
	"fmt"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/externalscaler/certificates"
)

// The name of the Secret that secures the gRPC port, and the label of all our objects.
const (
	// CertificateSecret is in our own namespace and contains the authority's key.
	CertificateSecret = "bitbucket-runner-scaler-tls" //nolint:gosec // a name, not a credential

	partOfKey = "app.kubernetes.io/part-of"
	partOf    = "bitbucket-runner-scaler"
)

// CertificateStore implements certificates.Store in a Secret of one namespace.
type CertificateStore struct {
	cluster   *Cluster
	namespace string
}

// CertificatesIn returns a store in that namespace, which is the control plane's own.
func (c *Cluster) CertificatesIn(namespace string) CertificateStore {
	return CertificateStore{cluster: c, namespace: namespace}
}

// Load implements certificates.Store.
func (s CertificateStore) Load(ctx context.Context) (certificates.Pair, string, error) {
	secret, err := s.cluster.client.CoreV1().Secrets(s.namespace).Get(ctx, CertificateSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return certificates.Pair{}, "", nil
	}
	if err != nil {
		return certificates.Pair{}, "", fmt.Errorf("read Secret %s/%s: %w", s.namespace, CertificateSecret, err)
	}
	return certificates.Pair{
		Bundle: secret.Data[certificates.BundleKey], AuthorityKey: secret.Data[certificates.AuthorityKeyKey],
		Chain: secret.Data[certificates.ChainKey], Key: secret.Data[certificates.KeyKey],
	}, secret.ResourceVersion, nil
}

// Save implements certificates.Store. The version is the Secret's resource version.
func (s CertificateStore) Save(ctx context.Context, pair certificates.Pair, version string) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: CertificateSecret, Namespace: s.namespace, ResourceVersion: version, Labels: map[string]string{partOfKey: partOf}},
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
		return fmt.Errorf("write Secret %s/%s: %w", s.namespace, CertificateSecret, certificates.ErrConflict)
	case err != nil:
		return fmt.Errorf("write Secret %s/%s: %w", s.namespace, CertificateSecret, err)
	}
	return nil
}

// errNotOurs means that someone else made a ConfigMap of our name.
var errNotOurs = errors.New("it exists and does not belong to the scaler: want the label " + partOfKey + "=" + partOf + ", or no such ConfigMap")

// Publish implements certificates.Maps.
func (c *Cluster) Publish(ctx context.Context, namespace string, bundle []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	maps := c.client.CoreV1().ConfigMaps(namespace)
	present, err := maps.Get(ctx, runnerv1.AuthorityConfigMap, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = maps.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: runnerv1.AuthorityConfigMap, Namespace: namespace, Labels: map[string]string{partOfKey: partOf}},
			Data:       map[string]string{runnerv1.AuthorityKey: string(bundle)},
		}, metav1.CreateOptions{})
	case err == nil && present.Labels[partOfKey] != partOf:
		err = errNotOurs
	case err == nil && present.Data[runnerv1.AuthorityKey] != string(bundle):
		present = present.DeepCopy()
		present.Data = map[string]string{runnerv1.AuthorityKey: string(bundle)}
		_, err = maps.Update(ctx, present, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", namespace, runnerv1.AuthorityConfigMap, err)
	}
	return nil
}

// Withdraw implements certificates.Maps.
func (c *Cluster) Withdraw(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	maps := c.client.CoreV1().ConfigMaps(namespace)
	present, err := maps.Get(ctx, runnerv1.AuthorityConfigMap, metav1.GetOptions{})
	if err == nil && present.Labels[partOfKey] == partOf {
		err = maps.Delete(ctx, runnerv1.AuthorityConfigMap, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &present.UID}})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ConfigMap %s/%s: %w", namespace, runnerv1.AuthorityConfigMap, err)
	}
	return nil
}

// Published implements certificates.Maps.
func (c *Cluster) Published(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := c.client.CoreV1().ConfigMaps(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + runnerv1.AuthorityConfigMap, LabelSelector: partOfKey + "=" + partOf,
	})
	if err != nil {
		return nil, fmt.Errorf("list ConfigMaps %s: %w", runnerv1.AuthorityConfigMap, err)
	}
	namespaces := make([]string, 0, len(found.Items))
	for i := range found.Items {
		namespaces = append(namespaces, found.Items[i].Namespace)
	}
	return namespaces, nil
}
