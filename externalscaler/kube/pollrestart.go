package kube

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// pausedAnnotation is KEDA's annotation that pauses a ScaledJob. It is the only
// annotation whose changes KEDA acts on.
const pausedAnnotation = "autoscaling.keda.sh/paused"

// RestartPolling makes KEDA read a ScaledJob again. It writes another spelling of "not
// paused", which has no other effect (controllers/keda/scaledjob_controller.go). It does
// nothing if the ScaledJob is paused or does not exist.
func (c *Cluster) RestartPolling(ctx context.Context, key fleet.GroupKey) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := c.dynamicClient.Resource(scaledJobs).Namespace(key.Namespace)
	present, err := client.Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ScaledJob %s: %w", key, err)
	}
	value, annotated := present.GetAnnotations()[pausedAnnotation]
	if annotated && pausedBy(value) {
		return nil
	}
	next := "false"
	if value == next {
		next = "0"
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": present.GetResourceVersion(), "annotations": map[string]string{pausedAnnotation: next},
	}})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	if _, err := client.Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("annotate ScaledJob %s: %w", key, err)
	}
	return nil
}
