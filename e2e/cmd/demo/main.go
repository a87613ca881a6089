// Command demo demonstrates the system on a real cluster: a local one that it builds and
// starts, or the one of --kubeconfig.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
	"bitbucket-runner-scaler/externalscaler/testbed/story"
)

const preface = `bitbucket-runner-scaler, the main job on a real cluster.

  real:     etcd, API server, controllers, scheduler, kubelet and containerd,
            KEDA; the scaler, deployed from deploy/ by kustomize; webhooks;
            sidecars in real pods
  stand-in: Bitbucket Cloud (the emulator, as a Deployment), Atlassian's runner
            (a process that sleeps)

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo-cluster:", err)
		os.Exit(1)
	}
}

type options struct {
	keep       bool
	kubeconfig string
	images     installation.Images
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	var o options
	flags.BoolVar(&o.keep, "keep", false, "keep all running at the end, until interrupted")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "use the cluster of this `file`, with KEDA installed, and build nothing")
	flags.StringVar(&o.images.Scaler, "image", "", "the product's `image`, with --kubeconfig")
	flags.StringVar(&o.images.Emulator, "emulator-image", "", "the emulator's `image`, with --kubeconfig")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	_, _ = fmt.Fprint(out, preface)
	if o.kubeconfig != "" {
		return onOwnCluster(ctx, o, out)
	}
	o.images = installation.Images{}
	return onLocalCluster(ctx, o, out)
}

func onOwnCluster(ctx context.Context, o options, out io.Writer) (err error) {
	var faults []error
	if o.images.Scaler == "" {
		faults = append(faults, errors.New("IMAGE: empty, want the product's image where your cluster can pull it (make image push IMAGE=...)"))
	}
	if o.images.Emulator == "" {
		faults = append(faults, errors.New("EMULATOR_IMAGE: empty, want the emulator's image where your cluster can pull it (make emulator-image, then push it)"))
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		faults = append(faults, fmt.Errorf("kubectl: %w", err))
	}
	kubeconfig, err := filepath.Abs(o.kubeconfig)
	if err == nil {
		_, err = os.Stat(kubeconfig)
	}
	if err != nil {
		faults = append(faults, fmt.Errorf("KUBECONFIG: %w", err))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	kube := installation.Kube{Kubectl: kubectl, Kubeconfig: kubeconfig}
	if _, err := kube.Run(ctx, "", "get", "crd", "scaledjobs.keda.sh"); err != nil {
		return fmt.Errorf("KEDA is not installed in this cluster, install it first: %w", err)
	}
	return runStory(ctx, kube, o, out)
}

func onLocalCluster(ctx context.Context, o options, out io.Writer) (err error) {
	c, err := cluster.Start(ctx, cluster.Options{Out: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.InstallKEDA(ctx); err != nil {
		return err
	}
	if err := installation.BuildImages(ctx, c, out); err != nil {
		return err
	}
	err = runStory(ctx, installation.Kube{Kubectl: c.Binaries().Kubectl, Kubeconfig: c.Kubeconfig()}, o, out)
	if err != nil && ctx.Err() == nil {
		c.DumpTo(ctx, out)
	}
	return err
}

// runStory installs the product, runs the story, and uninstalls the product.
func runStory(ctx context.Context, kube installation.Kube, o options, out io.Writer) (err error) {
	installed, err := installation.Install(ctx, kube, o.images)
	if err != nil {
		return err
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		err = errors.Join(err, installed.Uninstall(clean))
		installed.Close()
	}()
	if err := installed.Hook(ctx); err != nil {
		return err
	}
	stage := &installation.Stage{Installation: installed}
	for _, g := range story.Groups() {
		stage.Groups = append(stage.Groups, g.Name)
		edit := installation.Edit{Name: g.Name, Images: o.images, PollingInterval: poll, Metadata: g.Metadata()}
		edit.Metadata["coolDown"] = "10s"
		if err := installed.Apply(ctx, edit); err != nil {
			return err
		}
	}
	if o.keep {
		// The groups stay, so the last chapter is omitted.
		defer func() {
			if err == nil {
				printKept(kube, installed, out)
				<-ctx.Done()
			}
		}()
	}
	settings := story.Settings{Pace: 3 * time.Second, Poll: poll, Webhooks: true, Patience: 5 * time.Minute, Keep: o.keep}
	return story.Run(ctx, stage, installed.Control, settings, out)
}

// poll is the pollingInterval of the groups. Kubernetes keeps the seconds of a
// Job's creation, so that shorter polls could not be told apart.
const poll = 3 * time.Second

func printKept(kube installation.Kube, installed *installation.Installation, out io.Writer) {
	_, _ = fmt.Fprintf(out, `
All keeps running until Ctrl-C. In another shell:

  export KUBECONFIG=%s
  kubectl() { %s "$@"; }
  grpcurl() { go tool -modfile=.ci/tools.mod grpcurl "$@"; }
  kubectl get pods,scaledjobs -n %s
  kubectl port-forward -n %s svc/%s 9090 &%s
  curl -d '{"workspace":"acme","repository":"app","labels":["linux","builds"],"duration":"30s","count":5}' %s/_emulator/steps
`, kube.Kubeconfig, kube.Kubectl, installation.Runners, installation.ControlPlane, installation.Scaler, installation.Asking("builds", "9090"), installed.BitbucketURL)
}
