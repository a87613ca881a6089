package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// DeleteJob deletes a Job and, in the background, its pods. It returns nil if the Job
// does not exist or another Job has its name.
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
