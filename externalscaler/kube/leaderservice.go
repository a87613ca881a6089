package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// RoleLabel and RoleLeader are the label with which the Service selects the leader.
// Readiness cannot select it, because a standby that is never Ready would block every
// rolling update.
const (
	RoleLabel  = "bitbucket-runner-scaler/role"
	RoleLeader = "leader"
)

var (
	labelOn  = []byte(`{"metadata":{"labels":{"` + RoleLabel + `":"` + RoleLeader + `"}}}`)
	labelOff = []byte(`{"metadata":{"labels":{"` + RoleLabel + `":null}}}`)
)

// instanceLabel tells the pods of two installations in one namespace apart. Without the
// chart there is one, whose pods have no such label.
const instanceLabel = "app.kubernetes.io/instance"

// LeaderService implements leader.LeaderService: it moves the label that the Service
// selects between the pods of one installation.
type LeaderService struct {
	pods typedcorev1.PodInterface
	pod  string
}

// NewLeaderService returns the LeaderService of a pod.
func NewLeaderService(client kubernetes.Interface, namespace, pod string) *LeaderService {
	return &LeaderService{pods: client.CoreV1().Pods(namespace), pod: pod}
}

// PointHere removes the label from every other pod of the installation and then sets it
// on this one. If the labels are already right, it changes nothing. Repeated calls repair
// later changes.
func (s *LeaderService) PointHere(ctx context.Context) error {
	labelled, err := s.pods.List(ctx, metav1.ListOptions{LabelSelector: RoleLabel + "=" + RoleLeader})
	if err != nil {
		return fmt.Errorf("list pods with the label %s: %w", RoleLabel, err)
	}
	isOwn := func(pod corev1.Pod) bool { return pod.Name == s.pod }
	here := slices.ContainsFunc(labelled.Items, isOwn)
	others := slices.DeleteFunc(labelled.Items, isOwn)
	if len(others) > 0 {
		own, err := s.pods.Get(ctx, s.pod, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read pod %s: %w", s.pod, err)
		}
		others = slices.DeleteFunc(others, func(other corev1.Pod) bool { return other.Labels[instanceLabel] != own.Labels[instanceLabel] })
	}
	var errs []error
	for i := range others {
		if err := s.patch(ctx, others[i].Name, labelOff); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil || here {
		return err
	}
	return s.patch(ctx, s.pod, labelOn)
}

// Withdraw removes the label from this pod.
func (s *LeaderService) Withdraw(ctx context.Context) error { return s.patch(ctx, s.pod, labelOff) }

func (s *LeaderService) patch(ctx context.Context, pod string, patch []byte) error {
	if _, err := s.pods.Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label pod %s: %w", pod, err)
	}
	return nil
}
