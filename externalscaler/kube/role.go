package kube

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// RoleLabel and RoleLeader are the label by which the Service finds the leader.
// Readiness does not tell it: a standby that is never Ready would stall every
// rolling update.
const (
	RoleLabel  = "bitbucket-runner-scaler/role"
	RoleLeader = "leader"
)

var (
	labelOn  = []byte(`{"metadata":{"labels":{"` + RoleLabel + `":"` + RoleLeader + `"}}}`)
	labelOff = []byte(`{"metadata":{"labels":{"` + RoleLabel + `":null}}}`)
)

// Role moves the leader's label between the pods of one namespace.
type Role struct {
	pods typedcorev1.PodInterface
	pod  string
}

// NewRole makes the Role of a pod.
func NewRole(client kubernetes.Interface, namespace, pod string) *Role {
	return &Role{pods: client.CoreV1().Pods(namespace), pod: pod}
}

// Show takes the label off every other pod and only then puts it on this one. It
// changes nothing where all is so already, and may be repeated to mend what was
// changed since.
func (r *Role) Show(ctx context.Context) error {
	labelled, err := r.pods.List(ctx, metav1.ListOptions{LabelSelector: RoleLabel + "=" + RoleLeader})
	if err != nil {
		return fmt.Errorf("list pods with the label %s: %w", RoleLabel, err)
	}
	shown := false
	var errs []error
	for i := range labelled.Items {
		if name := labelled.Items[i].Name; name == r.pod {
			shown = true
		} else if err := r.patch(ctx, name, labelOff); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil || shown {
		return err
	}
	return r.patch(ctx, r.pod, labelOn)
}

// Hide takes the label off this pod.
func (r *Role) Hide(ctx context.Context) error { return r.patch(ctx, r.pod, labelOff) }

func (r *Role) patch(ctx context.Context, pod string, patch []byte) error {
	if _, err := r.pods.Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label pod %s: %w", pod, err)
	}
	return nil
}
