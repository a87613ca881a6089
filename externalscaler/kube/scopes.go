package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"bitbucket-runner-scaler/externalscaler/scope"
)

// The ConfigMap in our own namespace that stores the scopes of runners, and what else must
// survive a change of the leader. Each part of the scaler has a key of its own in it.
const (
	scopesName = "bitbucket-runner-scaler-scopes"
	scopesKey  = "scopes.json"

	// Before version 0.1.0 it had these names. They are still read if there is no
	// ConfigMap of the new name.
	oldScopesName = "bitbucket-runner-scaler-places"
	oldScopesKey  = "places.json"
)

// ScopeStore implements scope.Store in a ConfigMap of one namespace.
type ScopeStore struct {
	cluster   *Cluster
	namespace string
}

// ScopesIn returns a store in that namespace, which is the control plane's own.
func (c *Cluster) ScopesIn(namespace string) ScopeStore {
	return ScopeStore{cluster: c, namespace: namespace}
}

// LoadScopes implements scope.Store. It returns an error if the stored text cannot be
// read. This program did not write such a text, so it must not be overwritten, and a
// person must repair it.
func (s ScopeStore) LoadScopes(ctx context.Context) ([]scope.RegisteredScope, error) {
	name, key := scopesName, scopesKey
	maps := s.cluster.client.CoreV1().ConfigMaps(s.namespace)
	stored, err := maps.Get(ctx, name, metav1.GetOptions{})
	if err == nil && stored.Data[key] == "" || apierrors.IsNotFound(err) {
		name, key = oldScopesName, oldScopesKey
		stored, err = maps.Get(ctx, name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", s.namespace, name, err)
	}
	var scopes []scope.RegisteredScope
	if text := stored.Data[key]; text != "" {
		if err := json.Unmarshal([]byte(text), &scopes); err != nil {
			return nil, fmt.Errorf("read ConfigMap %s/%s: %s: %w; want the scaler's own list, or no such ConfigMap", s.namespace, name, key, err)
		}
	}
	return scopes, nil
}

// podlessKey is the key with since when runners have been without a pod.
const podlessKey = "podless.json"

// LoadPodless implements reaper.Store.
func (s ScopeStore) LoadPodless(ctx context.Context) (map[string]time.Time, error) {
	stored, err := s.cluster.client.CoreV1().ConfigMaps(s.namespace).Get(ctx, scopesName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", s.namespace, scopesName, err)
	}
	var podless map[string]time.Time
	if text := stored.Data[podlessKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &podless); err != nil {
			return nil, fmt.Errorf("read ConfigMap %s/%s: %s: %w", s.namespace, scopesName, podlessKey, err)
		}
	}
	return podless, nil
}

// SavePodless implements reaper.Store.
func (s ScopeStore) SavePodless(ctx context.Context, podless map[string]time.Time) error {
	text, err := json.MarshalIndent(podless, "", "  ")
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return s.save(ctx, podlessKey, string(text))
}

// SaveScopes implements scope.Store.
func (s ScopeStore) SaveScopes(ctx context.Context, scopes []scope.RegisteredScope) error {
	text, err := json.MarshalIndent(scopes, "", "  ")
	if err != nil {
		return fmt.Errorf("encode scopes: %w", err)
	}
	return s.save(ctx, scopesKey, string(text))
}

// save replaces the text under one key. Others are written by other parts of the scaler.
func (s ScopeStore) save(ctx context.Context, key, text string) error {
	maps := s.cluster.client.CoreV1().ConfigMaps(s.namespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		stored, err := maps.Get(ctx, scopesName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = maps.Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: scopesName, Namespace: s.namespace, Labels: map[string]string{partOfKey: partOf}},
				Data:       map[string]string{key: text},
			}, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		wanted := stored.DeepCopy()
		if wanted.Data == nil {
			wanted.Data = map[string]string{}
		}
		wanted.Data[key] = text
		_, err = maps.Update(ctx, wanted, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", s.namespace, scopesName, err)
	}
	return nil
}
