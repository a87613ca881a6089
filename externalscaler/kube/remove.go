package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// DeleteJob deletes a Job and, in the background, its pods. It returns nil if the Job
// is gone or another Job has its name now.
func (c *Cluster) DeleteJob(ctx context.Context, namespace, name, uid string) error {
	_, err := c.deleteJob(ctx, fleet.Job{Namespace: namespace, Name: name, UID: uid})
	return err
}

// DeleteUnchangedJob does so only if the Job is still as it was read; false if it has
// changed, for example because its pod was created.
func (c *Cluster) DeleteUnchangedJob(ctx context.Context, job fleet.Job) (deleted bool, err error) {
	return c.deleteJob(ctx, job)
}

// deleteJob deletes a Job of that UID and, if it is not empty, that resource version;
// false if the API server has another.
func (c *Cluster) deleteJob(ctx context.Context, job fleet.Job) (deleted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	background, uid := metav1.DeletePropagationBackground, types.UID(job.UID)
	preconditions := &metav1.Preconditions{UID: &uid}
	if job.ResourceVersion != "" {
		preconditions.ResourceVersion = &job.ResourceVersion
	}
	err = c.client.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: preconditions})
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsConflict(err):
		return false, nil // another Job, or the same one changed
	}
	return false, fmt.Errorf("delete Job %s/%s: %w", job.Namespace, job.Name, err)
}
