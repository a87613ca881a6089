package lint

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

var (
	scaledJobs = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledjobs"}
	nodes      = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
)

// Live adds the ScaledJobs of a cluster. An empty namespace means all namespaces.
func (in *Input) Live(ctx context.Context, client dynamic.Interface, namespace string) error {
	list, err := client.Resource(scaledJobs).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list ScaledJobs: %w", err)
	}
	for _, item := range list.Items {
		data, err := json.Marshal(item.Object)
		if err != nil {
			return fmt.Errorf("read ScaledJob %s/%s: %w", item.GetNamespace(), item.GetName(), err)
		}
		if err := in.Add(data); err != nil {
			return fmt.Errorf("%s/%s: %w", item.GetNamespace(), item.GetName(), err)
		}
	}
	return nil
}

// Nodes returns the allocatable resources of each node of a cluster.
func Nodes(ctx context.Context, client dynamic.Interface) ([]corev1.ResourceList, error) {
	list, err := client.Resource(nodes).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	allocatable := make([]corev1.ResourceList, 0, len(list.Items))
	for _, item := range list.Items {
		var node corev1.Node
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &node); err != nil {
			return nil, fmt.Errorf("read node %s: %w", item.GetName(), err)
		}
		allocatable = append(allocatable, node.Status.Allocatable)
	}
	return allocatable, nil
}
