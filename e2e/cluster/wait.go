package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// pollEvery is how often a condition is looked at.
const pollEvery = 200 * time.Millisecond

// kubectlPatience bounds one call of kubectl whose caller sets no deadline of its own.
const kubectlPatience = 2 * time.Minute

// waitFor looks until a condition holds; what it saw last is in the error.
func waitFor(ctx context.Context, what string, look func(ctx context.Context) error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, func(ctx context.Context) (bool, error) {
		if err := look(ctx); err != nil {
			if ctx.Err() == nil { // else it only says that the time is up
				last = err
			}
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx)), last)
	}
	return nil
}

func (c *Cluster) waitAPI(ctx context.Context) error {
	return waitFor(ctx, "the API server", func(ctx context.Context) error {
		return c.client.RESTClient().Get().AbsPath("/readyz").Timeout(2 * time.Second).Do(ctx).Error()
	})
}

func (c *Cluster) waitNode(ctx context.Context) error {
	return waitFor(ctx, "the node", func(ctx context.Context) error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("node %s is not ready", nodeName)
	})
}

func (c *Cluster) waitDeployments(ctx context.Context, namespace string, names ...string) error {
	for _, name := range names {
		if err := waitFor(ctx, namespace+"/"+name, func(ctx context.Context) error {
			deployment, err := c.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			available := slices.ContainsFunc(deployment.Status.Conditions, func(condition appsv1.DeploymentCondition) bool {
				return condition.Type == appsv1.DeploymentAvailable && condition.Status == corev1.ConditionTrue
			})
			if !available || deployment.Status.ObservedGeneration < deployment.Generation || deployment.Status.UnavailableReplicas > 0 {
				return fmt.Errorf("deployment %s/%s is not available", namespace, name)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// waitKEDA waits for KEDA's Deployments and for the webhook's certificate: the operator writes it, restarts with it,
// and only then can objects be created.
func (c *Cluster) waitKEDA(ctx context.Context) error {
	if err := c.waitDeployments(ctx, "keda", "keda-operator", "keda-metrics-apiserver", "keda-admission"); err != nil {
		return err
	}
	return waitFor(ctx, "KEDA's admission webhook", func(ctx context.Context) error {
		hooks, err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "keda-admission", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, hook := range hooks.Webhooks {
			if len(hook.ClientConfig.CABundle) == 0 {
				return fmt.Errorf("webhook %s has no certificate authority yet", hook.Name)
			}
		}
		return nil
	})
}

// loadOwnImages waits for containerd and loads what every node needs.
func (c *Cluster) loadOwnImages(ctx context.Context) error {
	if err := waitFor(ctx, "containerd", func(ctx context.Context) error {
		return runQuiet(command(ctx, "ctr", "--address", c.socket(), "version"))
	}); err != nil {
		return err
	}
	for _, archive := range []string{c.binaries.PauseImage, c.binaries.CoreDNSImage} {
		if err := c.LoadImage(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// apply applies the manifest in a file, server-side.
func (c *Cluster) apply(ctx context.Context, path string) error {
	_, err := c.Kubectl(ctx, nil, "apply", "--server-side", "-f", path)
	return err
}

// Kubectl runs kubectl as the cluster's administrator and returns its standard output; the error holds what it wrote
// to standard error. stdin may be nil.
func (c *Cluster) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(ctx, kubectlPatience)
	defer cancel()
	cmd := command(ctx, c.binaries.Kubectl, args...)
	cmd.Env = environment("KUBECONFIG="+c.Kubeconfig(), "HOME="+c.plan.Dir, c.plan.Marker)
	cmd.Stdin = stdin
	var out, failure strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failure
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(failure.String()))
	}
	return out.String(), nil
}

// DumpTo writes what helps to understand a failure: nodes, pods, recent events, and the last lines of every
// component's log and of KEDA's operator.
func (c *Cluster) DumpTo(ctx context.Context, w io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "nodes", "-o", "wide"},
		{"get", "pods,jobs,scaledjobs.keda.sh", "-A", "-o", "wide"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"logs", "-n", "keda", "deployment/keda-operator", "--tail=60"},
	} {
		stdout, err := c.Kubectl(ctx, nil, append(args, "--request-timeout=10s")...)
		_, _ = fmt.Fprintf(w, "== kubectl %s\n%s\n", strings.Join(args, " "), tail(stdout, 80))
		if err != nil {
			_, _ = fmt.Fprintln(w, err)
		}
	}
	logs, err := os.ReadDir(c.plan.Dir + "/logs")
	if err != nil {
		_, _ = fmt.Fprintln(w, err)
	}
	for _, log := range logs {
		name := strings.TrimSuffix(log.Name(), ".log")
		_, _ = fmt.Fprintf(w, "== %s\n%s\n", name, c.logTail(name, 20))
	}
}
