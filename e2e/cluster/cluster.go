package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"bitbucket-runner-scaler/e2e/cluster/internal/teardown"
)

// Bounds of the steps; each is many times what it takes on two cores.
const (
	startPatience = 5 * time.Minute
	kedaPatience  = 5 * time.Minute
	lockPatience  = 20 * time.Minute
)

var errClosed = errors.New("the cluster is closed")

// Options configure a cluster. The zero value is valid.
type Options struct {
	// Dir is the folder for all of the cluster's files; it must not exist, and is deleted at the end. Its path must be
	// short (up to 60 characters), for sockets lie in it. Default: a fresh folder in the folder for temporary files.
	Dir string
	// Out receives the progress, one line per step. Default: none.
	Out io.Writer
}

// Cluster is a running cluster of one node. Its methods can be called at the same time.
type Cluster struct {
	binaries Binaries
	config   settings
	plan     *teardown.Plan
	planPath string
	janitor  *janitor
	out      io.Writer

	rest   *rest.Config
	client *kubernetes.Clientset

	health    health
	processes sync.WaitGroup
	closing   sync.Once
	closed    error
}

// Start builds what is not built yet and brings a cluster up: the node and CoreDNS are ready when it returns. There is
// one cluster on a machine at a time: Start waits up to 20 minutes for another to be gone. What an earlier one left
// behind whose janitor was killed too, is taken away first. The context bounds Start alone; end the cluster with Close.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if err := Require(ctx, opts.Out); err != nil {
		return nil, err
	}
	binaries, err := Build(ctx, opts.Out)
	if err != nil {
		return nil, err
	}
	c := &Cluster{binaries: binaries, out: opts.Out, health: health{ended: make(chan struct{})}}
	if err := c.claim(ctx, opts.Dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("not up within %s", startPatience))
	defer cancel()
	ctx, release := c.health.while(ctx)
	defer release()
	if err := c.bringUp(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		c.DumpTo(context.WithoutCancel(ctx), opts.Out)
		return nil, errors.Join(fmt.Errorf("starting the cluster: %w", err), c.Close())
	}
	return c, nil
}

// claim takes the lock on the machine's one cluster, writes the plan of what must be removed, and starts the janitor.
// Nothing else is started before that.
func (c *Cluster) claim(ctx context.Context, dir string) (err error) {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "cluster.lock"), lockPatience, func() {
		c.say("waiting for another cluster on this machine to be gone ...")
	})
	if err != nil {
		return fmt.Errorf("there is one local cluster on a machine at a time: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // the janitor keeps it
	c.planPath = filepath.Join(cache, "cluster.json")
	if err := c.removeLeftovers(ctx); err != nil {
		return err
	}
	if err := checkFree(ctx); err != nil {
		return err
	}
	if dir, err = makeDir(dir); err != nil {
		return err
	}
	c.plan = &teardown.Plan{
		Dir: dir, Marker: "E2E_CLUSTER=" + rand.Text(), CgroupRoot: cgroupRoot,
		Bridge: bridgeName, Network: networkName, Tables: proxyTables,
	}
	c.plan.Observe()
	if err := c.plan.Save(c.planPath); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if c.janitor, err = startJanitor(ctx, c.planPath, cache, lock); err != nil {
		return errors.Join(err, os.RemoveAll(dir), os.Remove(c.planPath))
	}
	return nil
}

// removeLeftovers removes an earlier cluster that its janitor did not remove.
func (c *Cluster) removeLeftovers(ctx context.Context) error {
	old, err := teardown.Load(c.planPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.say("taking away what an earlier cluster left behind ...")
	if err := teardown.Run(ctx, old); err != nil {
		return fmt.Errorf("removing what an earlier cluster left: %w", err)
	}
	return os.Remove(c.planPath)
}

func makeDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "e2e-cluster-")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	const longest = 60 // a socket's path has 107 characters at most
	if len(dir) > longest {
		return "", fmt.Errorf("dir: got %q, want a path of up to %d characters", dir, longest)
	}
	return dir, os.Mkdir(dir, 0o755)
}

func (c *Cluster) bringUp(ctx context.Context) (err error) {
	c.say("starting Kubernetes %s in %s ...", c.binaries.Versions.Kubernetes.Version, c.plan.Dir)
	if err := os.MkdirAll(filepath.Join(c.plan.Dir, "logs"), 0o755); err != nil {
		return err
	}
	if c.config, err = newSettings(c.plan.Dir); err != nil {
		return err
	}
	if err := c.config.write(); err != nil {
		return err
	}
	if err := writePKI(c.plan.Dir); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	if err := c.prepareNode(ctx); err != nil {
		return fmt.Errorf("preparing the node: %w", err)
	}
	if err := c.start("containerd", find("containerd"), "--config", filepath.Join(c.plan.Dir, "containerd.toml")); err != nil {
		return err
	}
	if err := c.startControlPlane(); err != nil {
		return err
	}
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() error { return c.loadOwnImages(bothCtx) })
	both.Go(func() error { return c.waitAPI(bothCtx) })
	if err := both.Wait(); err != nil {
		return err
	}
	if err := c.startControllers(); err != nil {
		return err
	}
	if err := c.apply(ctx, filepath.Join(c.plan.Dir, "coredns.yaml")); err != nil {
		return err
	}
	if err := c.waitNode(ctx); err != nil {
		return err
	}
	if err := c.waitDeployments(ctx, "kube-system", "coredns"); err != nil {
		return err
	}
	c.say("the cluster is up")
	return nil
}

// connect prepares the clients; nothing need be there yet.
func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 200 // tests poll
	c.rest = config
	c.client, err = kubernetes.NewForConfig(config)
	return err
}

// InstallKEDA installs KEDA as its module's config/default does, with its own roles, and waits until the operator, the
// metrics API server and the admission webhooks are available.
func (c *Cluster) InstallKEDA(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, kedaPatience, fmt.Errorf("not available within %s", kedaPatience))
	defer cancel()
	ctx, release := c.health.while(ctx)
	defer release()
	c.say("installing KEDA %s ...", c.binaries.Versions.KEDA.Version)
	err := c.LoadImage(ctx, c.binaries.KEDAImage)
	if err == nil {
		err = c.apply(ctx, c.binaries.KEDAManifest)
	}
	if err == nil {
		err = c.waitKEDA(ctx)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return fmt.Errorf("installing KEDA: %w", err)
	}
	c.say("KEDA is up")
	return nil
}

// Kubeconfig returns the path of a self-contained kubeconfig for the cluster's administrator.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.plan.Dir, "admin.kubeconfig") }

// RESTConfig returns a copy of the administrator's client configuration.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.rest) }

// Binaries returns the paths of the cluster's programs and of the tools.
func (c *Cluster) Binaries() Binaries { return c.binaries }

// Close ends the cluster and takes every trace of it away: processes, containers, mounts, network, cgroups, kernel
// settings and files. The error names what is left, if anything. Further calls return the same.
func (c *Cluster) Close() error {
	c.closing.Do(func() {
		c.say("taking the cluster away ...")
		c.health.fail(errClosed)
		c.closed = c.janitor.finish()
		if c.closed == nil {
			c.processes.Wait() // all are dead
		}
	})
	return c.closed
}

func (c *Cluster) socket() string { return filepath.Join(c.plan.Dir, "containerd.sock") }

func (c *Cluster) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, format+"\n", args...)
}
