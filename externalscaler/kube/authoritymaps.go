package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// AuthorityMaps implements certificates.Maps. Several installations may have runner
// groups in one namespace, and then share its ConfigMap: each has a key of its own in
// it, and the key that KEDA and the sidecars read holds the authorities of all. An
// installation changes only its own.
type AuthorityMaps struct {
	client kubernetes.Interface
	// key is that of this installation.
	key string
}

// authoritySuffix ends the keys of installations.
const authoritySuffix = ".pem"

// AuthorityMaps returns those of the installation with that owner label.
func (c *Cluster) AuthorityMaps(owner string) AuthorityMaps {
	return AuthorityMaps{client: c.client, key: owner + authoritySuffix}
}

// errNotOurs means that someone else made a ConfigMap of our name.
var errNotOurs = errors.New("it exists and does not belong to the scaler: want the label " + partOfKey + "=" + partOf + ", or no such ConfigMap")

// Publish implements certificates.Maps.
func (a AuthorityMaps) Publish(ctx context.Context, namespace string, bundle []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	configMaps := a.client.CoreV1().ConfigMaps(namespace)
	present, err := configMaps.Get(ctx, runnerv1.AuthorityConfigMap, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = configMaps.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: runnerv1.AuthorityConfigMap, Namespace: namespace, Labels: map[string]string{partOfKey: partOf}},
			Data:       a.with(nil, bundle),
		}, metav1.CreateOptions{})
	case err == nil && present.Labels[partOfKey] != partOf:
		err = errNotOurs
	case err == nil:
		if data := a.with(present.Data, bundle); !maps.Equal(data, present.Data) {
			present = present.DeepCopy() // with its resource version: another installation may write too
			present.Data = data
			_, err = configMaps.Update(ctx, present, metav1.UpdateOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", namespace, runnerv1.AuthorityConfigMap, err)
	}
	return nil
}

// Withdraw implements certificates.Maps. The last installation deletes the ConfigMap.
func (a AuthorityMaps) Withdraw(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	configMaps := a.client.CoreV1().ConfigMaps(namespace)
	present, err := configMaps.Get(ctx, runnerv1.AuthorityConfigMap, metav1.GetOptions{})
	if err == nil && a.publishedIn(present) {
		if data := a.with(present.Data, nil); len(data) > 0 {
			present = present.DeepCopy()
			present.Data = data
			_, err = configMaps.Update(ctx, present, metav1.UpdateOptions{})
		} else {
			err = configMaps.Delete(ctx, runnerv1.AuthorityConfigMap, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &present.UID, ResourceVersion: &present.ResourceVersion},
			})
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("withdraw from ConfigMap %s/%s: %w", namespace, runnerv1.AuthorityConfigMap, err)
	}
	return nil
}

// Published implements certificates.Maps.
func (a AuthorityMaps) Published(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := a.client.CoreV1().ConfigMaps(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + runnerv1.AuthorityConfigMap, LabelSelector: partOfKey + "=" + partOf,
	})
	if err != nil {
		return nil, fmt.Errorf("list ConfigMaps %s: %w", runnerv1.AuthorityConfigMap, err)
	}
	var namespaces []string
	for i := range found.Items {
		if a.publishedIn(&found.Items[i]) {
			namespaces = append(namespaces, found.Items[i].Namespace)
		}
	}
	return namespaces, nil
}

// publishedIn reports whether this installation has its authority in a ConfigMap.
func (a AuthorityMaps) publishedIn(configMap *corev1.ConfigMap) bool {
	_, published := configMap.Data[a.key]
	return published && configMap.Labels[partOfKey] == partOf
}

// with returns the data of a ConfigMap with this installation's bundle in place of
// its last one, or without it if bundle is nil; empty if no installation is left.
// What is under the common key alone comes from a version that had no others, and is
// replaced.
func (a AuthorityMaps) with(present map[string]string, bundle []byte) map[string]string {
	data := map[string]string{}
	for key, value := range present {
		if strings.HasSuffix(key, authoritySuffix) && key != a.key {
			data[key] = value
		}
	}
	if bundle != nil {
		data[a.key] = string(bundle)
	}
	if len(data) == 0 {
		return nil
	}
	var all strings.Builder
	for _, key := range slices.Sorted(maps.Keys(data)) {
		all.WriteString(strings.TrimSuffix(data[key], "\n") + "\n")
	}
	data[runnerv1.AuthorityKey] = all.String()
	return data
}
