package kube

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Where the places of runners are kept: a ConfigMap of our own namespace.
const (
	placesName = "bitbucket-runner-scaler-places"
	placesKey  = "places.json"
)

// Places implements fleet.Places in a ConfigMap of one namespace.
type Places struct {
	cluster   *Cluster
	namespace string
}

// PlacesIn keeps places in that namespace, which is the control plane's own.
func (c *Cluster) PlacesIn(namespace string) Places {
	return Places{cluster: c, namespace: namespace}
}

// LoadPlaces implements fleet.Places. What cannot be understood was not written by
// us, and must be mended by a person: it is an error, lest it be overwritten.
func (p Places) LoadPlaces(ctx context.Context) ([]fleet.KeptPlace, error) {
	kept, err := p.cluster.client.CoreV1().ConfigMaps(p.namespace).Get(ctx, placesName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", p.namespace, placesName, err)
	}
	var places []fleet.KeptPlace
	if text := kept.Data[placesKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &places); err != nil {
			return nil, fmt.Errorf("read ConfigMap %s/%s: %s: %w; want the scaler's own list, or no such ConfigMap", p.namespace, placesName, placesKey, err)
		}
	}
	return places, nil
}

// SavePlaces implements fleet.Places.
func (p Places) SavePlaces(ctx context.Context, places []fleet.KeptPlace) error {
	text, err := json.MarshalIndent(places, "", "  ")
	if err != nil {
		return fmt.Errorf("encode places: %w", err)
	}
	maps := p.cluster.client.CoreV1().ConfigMaps(p.namespace)
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: placesName, Namespace: p.namespace, Labels: map[string]string{"app.kubernetes.io/part-of": "bitbucket-runner-scaler"}},
		Data:       map[string]string{placesKey: string(text)},
	}
	if _, err = maps.Update(ctx, wanted, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
		_, err = maps.Create(ctx, wanted, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", p.namespace, placesName, err)
	}
	return nil
}
