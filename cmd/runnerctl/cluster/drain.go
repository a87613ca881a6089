package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	batchv1 "k8s.io/api/batch/v1"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

type drainFlags struct {
	target
	noWait  bool
	timeout time.Duration
}

func drainCommand(s Settings) *cobra.Command {
	c := &cobra.Command{
		Use:   "drain RUNNER|node/NAME",
		Short: "End a runner, or all runners of a node, once their steps have ended",
		Long: `drain asks the scaler to end a runner in order: it is disabled at Bitbucket so that it
takes no new step, its step ends, it stops, and its Job completes. If it is the last one
online of its group, a successor comes first, so that no step finds nobody online. RUNNER
may be the name, the UUID, the pod or the Job of a runner. node/NAME means all runners on
a node; cordon it first, or their successors may come to the same node:

  kubectl cordon NAME && runnerctl drain node/NAME

drain writes the annotation ` + kube.DrainAnnotation + ` on the Jobs, so you need the
right to patch Jobs in the namespaces of the groups. Removing it takes the request back,
until the runner is disabled.

` + convention,
		Example: `  runnerctl drain linux-x7k2p-9qzvd
  runnerctl drain node/worker-3 --timeout 1h`,
	}
	f := &drainFlags{}
	set := command.Flags(c, "RUNNERCTL", s.Lookup)
	f.define(set)
	set.Bool(&f.noWait, "no-wait", "", "do not wait until the runners have ended")
	set.Duration(&f.timeout, "timeout", 2*time.Hour, time.Second, "how long to wait; the runners go on draining after that")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		f.check(set)
		if len(args) != 1 {
			set.Fault("%d arguments, want one RUNNER or node/NAME", len(args))
		}
		if err := set.Err(); err != nil {
			return err
		}
		return s.UntilInterrupted(c.Context(), func(ctx context.Context) error { return f.run(ctx, args[0], c.OutOrStdout()) })
	}
	return c
}

func (f *drainFlags) run(ctx context.Context, given string, stdout io.Writer) error {
	runners, err := f.runners(ctx)
	if err != nil {
		return err
	}
	node, isNode := strings.CutPrefix(given, "node/")
	var meant []api.Runner
	for _, r := range runners {
		if r.Job != "" && (isNode && r.Node == node || !isNode && named(r, given)) {
			meant = append(meant, r)
		}
	}
	if len(meant) == 0 {
		if isNode {
			return exit.With(exit.Failed, fmt.Errorf("no runner is on the node %q", node))
		}
		return exit.With(exit.Failed, fmt.Errorf("%q is not the name, UUID, pod or Job of a runner, and no node/NAME", given))
	}
	client, err := f.kubernetes()
	if err != nil {
		return err
	}
	var faults []error
	var asked []api.Runner
	for _, r := range meant {
		if err := f.ask(ctx, client, r); err != nil {
			faults = append(faults, err)
			continue
		}
		asked = append(asked, r)
		if _, err := fmt.Fprintf(stdout, "%s of %s is draining (%s)\n", nameOf(r), r.Group, r.State); err != nil {
			return err
		}
	}
	if !f.noWait {
		faults = append(faults, f.await(ctx, client, asked, stdout))
	}
	return exit.With(exit.Failed, errors.Join(faults...))
}

func nameOf(r api.Runner) string {
	if r.Name != "" {
		return r.Name
	}
	return "Job " + r.Job
}

// ask writes the request on a Job.
func (f *drainFlags) ask(ctx context.Context, client kubernetes.Interface, r api.Runner) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, kube.DrainAnnotation, time.Now().UTC().Format(time.RFC3339))
	_, err := client.BatchV1().Jobs(namespaceOf(r)).Patch(ctx, r.Job, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "runnerctl"})
	if err != nil {
		return fmt.Errorf("Job %s/%s: %w", namespaceOf(r), r.Job, err) //nolint:staticcheck // a Kubernetes kind
	}
	return nil
}

// await waits until the Jobs have ended.
func (f *drainFlags) await(ctx context.Context, client kubernetes.Interface, runners []api.Runner, stdout io.Writer) error {
	left := runners
	err := wait.PollUntilContextTimeout(ctx, 2*time.Second, f.timeout, true, func(ctx context.Context) (bool, error) {
		var still []api.Runner
		for _, r := range left {
			job, err := client.BatchV1().Jobs(namespaceOf(r)).Get(ctx, r.Job, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err), err == nil && finished(job):
				if _, err := fmt.Fprintf(stdout, "%s has ended\n", nameOf(r)); err != nil {
					return false, err
				}
			default:
				still = append(still, r) // also if the API server did not answer
			}
		}
		left = still
		return len(left) == 0, nil
	})
	if err != nil && len(left) > 0 {
		return fmt.Errorf("%d of %d runners have not ended yet (%w); they go on draining", len(left), len(runners), err)
	}
	return err
}

// finished reports whether a Job has ended.
func finished(job *batchv1.Job) bool {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == "True" {
			return true
		}
	}
	return false
}
