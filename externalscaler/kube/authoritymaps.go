package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// AuthorityMaps implements certificates.Maps. Several installations may have runner
// groups in one namespace, and then share its ConfigMap: each has a key of its own in
// it, and the key that KEDA and the sidecars read holds the authorities of all. An
// installation changes only its own key, and removes what an installation left behind
// that is gone. See authorities.
type AuthorityMaps struct {
	client kubernetes.Interface
	// key is that of this installation.
	key   string
	clock clock.PassiveClock
}

// AuthorityMaps returns those of the installation with that owner label.
func (c *Cluster) AuthorityMaps(owner string, clock clock.PassiveClock) AuthorityMaps {
	return AuthorityMaps{client: c.client, key: owner + authoritySuffix, clock: clock}
}

// errNotOurs means that someone else made a ConfigMap of our name.
var errNotOurs = errors.New("it exists and does not belong to the scaler: want the label " + partOfKey + "=" + partOf + ", or no such ConfigMap")

// Publish implements certificates.Maps.
func (a AuthorityMaps) Publish(ctx context.Context, namespace string, bundle []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := a.clock.Now()
	configMaps := a.client.CoreV1().ConfigMaps(namespace)
	present, err := configMaps.Get(ctx, runnerv1.AuthorityConfigMap, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: runnerv1.AuthorityConfigMap, Namespace: namespace, Labels: map[string]string{partOfKey: partOf}}}
		authorities{}.with(a.key, bundle, now).writeTo(wanted)
		_, err = configMaps.Create(ctx, wanted, metav1.CreateOptions{})
	case err == nil && present.Labels[partOfKey] != partOf:
		err = errNotOurs
	case err == nil:
		wanted := present.DeepCopy() // with its resource version: another installation may write too
		readAuthorities(present, now).without(a.key, bundle).withoutStale(now).with(a.key, bundle, a.lastPublished(present, now)).writeTo(wanted)
		if !maps.Equal(wanted.Data, present.Data) || !maps.Equal(wanted.Annotations, present.Annotations) {
			_, err = configMaps.Update(ctx, wanted, metav1.UpdateOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", namespace, runnerv1.AuthorityConfigMap, err)
	}
	return nil
}

// lastPublished returns the time to write beside our key: the one that is there, unless it
// is too old.
func (a AuthorityMaps) lastPublished(present *corev1.ConfigMap, now time.Time) time.Time {
	if last := readAuthorities(present, now)[a.key].published; now.Sub(last) < publishedEvery {
		return last
	}
	return now
}

// Withdraw implements certificates.Maps. The last installation deletes the ConfigMap.
func (a AuthorityMaps) Withdraw(ctx context.Context, namespace string, bundle []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := a.clock.Now()
	configMaps := a.client.CoreV1().ConfigMaps(namespace)
	present, err := configMaps.Get(ctx, runnerv1.AuthorityConfigMap, metav1.GetOptions{})
	if err == nil && a.publishedIn(present, bundle, now) {
		if left := readAuthorities(present, now).without(a.key, bundle).withoutStale(now); len(left) > 0 {
			present = present.DeepCopy()
			left.writeTo(present)
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
func (a AuthorityMaps) Published(ctx context.Context, bundle []byte) ([]string, error) {
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
		if a.publishedIn(&found.Items[i], bundle, a.clock.Now()) {
			namespaces = append(namespaces, found.Items[i].Namespace)
		}
	}
	return namespaces, nil
}

// publishedIn reports whether a ConfigMap has an authority of this installation, or one
// that an installation left behind that is gone.
func (a AuthorityMaps) publishedIn(configMap *corev1.ConfigMap, bundle []byte, now time.Time) bool {
	present := readAuthorities(configMap, now)
	return configMap.Labels[partOfKey] == partOf && len(present.without(a.key, bundle).withoutStale(now)) < len(present)
}
