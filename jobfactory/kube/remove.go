package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// DeleteJob deletes a Job and, in the background, its pods. One that is gone, or
// whose name another bears by now, counts as deleted.
func (c *Cluster) DeleteJob(ctx context.Context, namespace, name, uid string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	background, precondition := metav1.DeletePropagationBackground, types.UID(uid)
	err := c.client.BatchV1().Jobs(namespace).Delete(ctx, name, metav1.DeleteOptions{
		PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &precondition},
	})
	// The UID is the only precondition, so a conflict means another Job.
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete Job %s/%s: %w", namespace, name, err)
	}
	return nil
}

// GetPod reads one pod from the API server itself; false if there is none of that
// name.
func (c *Cluster) GetPod(ctx context.Context, namespace, name string) (fleet.Pod, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pod, err := c.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fleet.Pod{}, false, nil
	case err != nil:
		return fleet.Pod{}, false, fmt.Errorf("read pod %s/%s: %w", namespace, name, err)
	}
	return podOf(pod), true, nil
}
