package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// runners asks the scaler for all runners, or those of the namespace.
func (t *target) runners(ctx context.Context) ([]api.Runner, error) {
	client, err := t.open()
	if err != nil {
		return nil, err
	}
	var found api.Items[api.Runner]
	if err := client.get(ctx, "/runners", &found); err != nil {
		return nil, err
	}
	if found.Omitted > 0 {
		if found.Items, err = client.runnersByGroup(ctx); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(found.Items, func(r api.Runner) bool { return t.namespace != "" && namespaceOf(r) != t.namespace }), nil
}

// runnersByGroup asks for the runners of one group after the other: a list of all is bounded.
func (c *client) runnersByGroup(ctx context.Context) (all []api.Runner, err error) {
	var groups api.Items[api.Group]
	if err := c.get(ctx, "/groups", &groups); err != nil {
		return nil, err
	}
	for _, g := range groups.Items {
		var found api.Items[api.Runner]
		if err := c.get(ctx, "/runners?group="+url.QueryEscape(g.Key()), &found); err != nil {
			return nil, err
		}
		all = append(all, found.Items...)
	}
	return all, nil
}

// named reports whether a runner is meant by a name: its own, that of its pod or Job, or its UUID.
func named(r api.Runner, name string) bool {
	id := strings.Trim(name, "{}")
	return id != "" && (r.Name == name || r.Pod == name || r.Job == name || strings.EqualFold(strings.Trim(r.UUID, "{}"), id))
}

// namespaceOf is the namespace of a runner's Job.
func namespaceOf(r api.Runner) string {
	namespace, _, _ := strings.Cut(r.Group, "/")
	return namespace
}

// pods are those of a group, or of one runner. Pods that have ended are among them as long as
// Kubernetes keeps them.
func (t *target) pods(ctx context.Context, client kubernetes.Interface, given string) ([]corev1.Pod, error) {
	if group, err := t.groupKey(given); err == nil {
		namespace, name, _ := strings.Cut(group, "/")
		list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: kube.ScaledJobLabel + "=" + name})
		if err != nil {
			return nil, exit.With(exit.Unclear, fmt.Errorf("pods of %s: %w", group, err))
		}
		if len(list.Items) > 0 {
			slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
			return list.Items, nil
		}
	}
	runners, err := t.runners(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range runners {
		if !named(r, given) {
			continue
		}
		if r.Pod == "" {
			return nil, exit.With(exit.Failed, fmt.Errorf("%s has no pod yet: %s", given, r.Waits))
		}
		pod, err := client.CoreV1().Pods(namespaceOf(r)).Get(ctx, r.Pod, metav1.GetOptions{})
		if err != nil {
			return nil, exit.With(exit.Unclear, fmt.Errorf("pod of %s: %w", given, err))
		}
		return []corev1.Pod{*pod}, nil
	}
	return nil, exit.With(exit.Failed, errors.Join(
		fmt.Errorf("%q is no group with pods, and no runner, pod, Job or UUID of a runner", given), fmt.Errorf("runnerctl status shows the groups")))
}
