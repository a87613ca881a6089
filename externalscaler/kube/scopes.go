package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// The ConfigMap in our own namespace that stores what a new leader has to know. Each part
// of the scaler has a key of its own in it.
const (
	scopesKey = "scopes.json"
	// usageKey has the calls of the last hour, by credentials set.
	usageKey = "usage.json"
	// podlessKey has since when runners have been without a pod.
	podlessKey = "podless.json"

	// Before version 0.1.0 the ConfigMap and the key had other names. They are still read
	// if there is no ConfigMap of the new name.
	oldScopesKey = "places.json"
)

// ScopeStore implements scope.Store, controlplane.UsageStore and reaper.Store in a
// ConfigMap of one namespace.
type ScopeStore struct {
	cluster   *Cluster
	namespace string
	// name and oldName are those of the ConfigMap.
	name, oldName string
}

// ScopesIn returns a store in that namespace, which is the control plane's own. The
// ConfigMap has the name of the installation's Service, and "-scopes".
func (c *Cluster) ScopesIn(namespace, service string) ScopeStore {
	return ScopeStore{cluster: c, namespace: namespace, name: service + "-scopes", oldName: service + "-places"}
}

// LoadScopes implements scope.Store. It returns an error if the stored text cannot be
// read. This program did not write such a text, so it must not be overwritten, and a
// person must repair it.
func (s ScopeStore) LoadScopes(ctx context.Context) ([]scope.RegisteredScope, error) {
	var scopes []scope.RegisteredScope
	found, err := s.load(ctx, s.name, scopesKey, &scopes)
	if err == nil && !found {
		_, err = s.load(ctx, s.oldName, oldScopesKey, &scopes)
	}
	return scopes, err
}

// SaveScopes implements scope.Store.
func (s ScopeStore) SaveScopes(ctx context.Context, scopes []scope.RegisteredScope) error {
	return s.save(ctx, scopesKey, scopes)
}

// LoadUsage implements controlplane.UsageStore. It passes over what another version
// stored: an hour later it is worth nothing anyway.
func (s ScopeStore) LoadUsage(ctx context.Context) (map[string]bitbucket.Usage, error) {
	var usage map[string]bitbucket.Usage
	_, err := s.load(ctx, s.name, usageKey, &usage)
	if errors.Is(err, errUnreadable) {
		return nil, nil
	}
	return usage, err
}

// SaveUsage implements controlplane.UsageStore.
func (s ScopeStore) SaveUsage(ctx context.Context, usage map[string]bitbucket.Usage) error {
	return s.save(ctx, usageKey, usage)
}

// LoadPodless implements reaper.Store.
func (s ScopeStore) LoadPodless(ctx context.Context) (map[string]time.Time, error) {
	var podless map[string]time.Time
	_, err := s.load(ctx, s.name, podlessKey, &podless)
	return podless, err
}

// SavePodless implements reaper.Store.
func (s ScopeStore) SavePodless(ctx context.Context, podless map[string]time.Time) error {
	return s.save(ctx, podlessKey, podless)
}

// errUnreadable says that this version cannot read what is stored.
var errUnreadable = errors.New("want what the scaler has written, or no such key")

// load reads one key of a ConfigMap into value, and returns false if there is none.
func (s ScopeStore) load(ctx context.Context, name, key string, value any) (found bool, err error) {
	stored, err := s.cluster.client.CoreV1().ConfigMaps(s.namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read ConfigMap %s/%s: %w", s.namespace, name, err)
	case stored.Data[key] == "":
		return false, nil
	}
	if err := json.Unmarshal([]byte(stored.Data[key]), value); err != nil {
		return false, fmt.Errorf("read ConfigMap %s/%s: %s: %w; %w", s.namespace, name, key, err, errUnreadable)
	}
	return true, nil
}

// save replaces one key of the ConfigMap.
func (s ScopeStore) save(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	maps := s.cluster.client.CoreV1().ConfigMaps(s.namespace)
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		stored, err := maps.Get(ctx, s.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = maps.Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: s.name, Namespace: s.namespace, Labels: map[string]string{partOfKey: partOf}},
				Data:       map[string]string{key: string(text)},
			}, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		if stored.Data == nil {
			stored.Data = map[string]string{}
		}
		stored.Data[key] = string(text)
		_, err = maps.Update(ctx, stored, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", s.namespace, s.name, err)
	}
	return nil
}
