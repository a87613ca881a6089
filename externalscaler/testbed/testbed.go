// Package testbed runs the whole system on one machine without Kubernetes. The control
// plane is real. The sidecar and the stand-in runner run as processes. The emulator
// serves as Bitbucket over real HTTP. Kubernetes and KEDA have minimal substitutes: the
// control plane's interfaces in memory, KEDA's `default` arithmetic applied to the answers
// of the real gRPC server, and a node that starts the pods' containers as processes in
// the kubelet's order.
//
// The demo and the fast tests use it. No product binary links it.
package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/webhook"
)

// Config configures a Bed.
type Config struct {
	// Dir contains the pods' directories and logs. Its path must be short, because it is
	// part of the path of a Unix socket.
	Dir      string
	Binaries Binaries
	// Emulator are the emulator's settings.
	Emulator emulator.Options
	// BitbucketURL is the URL of another bed's emulator. If it is empty, the bed starts
	// its own.
	BitbucketURL string
	// Namespace is the control plane's namespace, which distinguishes two installations.
	// Default testbed.
	Namespace string
	// ControlPlane contains the control plane's times. Start sets the other fields.
	ControlPlane controlplane.Config
	// Webhooks makes the emulator deliver its events to the control plane.
	Webhooks bool
	// KEDAInterval is the ScaledJobs' pollingInterval.
	KEDAInterval time.Duration
	// RunnerEnv is additional environment of the runner containers.
	RunnerEnv []string
	Logger    *zap.Logger
}

// Bed is a running test bed.
type Bed struct {
	// Cluster, Control and Plane may be used at any time.
	Cluster *Cluster
	Control *emulator.Control
	Plane   *controlplane.ControlPlane
	// BitbucketURL, GRPCAddress and HTTPAddress are the addresses on which it listens.
	BitbucketURL, GRPCAddress, HTTPAddress string

	config Config
	server *emulator.Server
	http   *http.Server
	node   *node
	keda   *keda
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	group  *errgroup.Group
	ctx    context.Context //nolint:containedctx // the life of the bed and of ScaledJobs applied later

	mu      sync.Mutex
	applied map[string]context.CancelFunc // by ScaledJob UID
}

// Start starts everything; Close ends it.
func Start(ctx context.Context, config Config) (bed *Bed, err error) {
	ctx, cancel := context.WithCancel(ctx)
	b := &Bed{Cluster: NewCluster(), config: config, cancel: cancel, applied: map[string]context.CancelFunc{}}
	b.group, b.ctx = errgroup.WithContext(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	listeners, err := listen(ctx, 2)
	if err != nil {
		return nil, err
	}
	b.GRPCAddress, b.HTTPAddress = listeners[0].Addr().String(), listeners[1].Addr().String()
	if b.BitbucketURL = config.BitbucketURL; b.BitbucketURL == "" {
		if err := b.serveBitbucket(ctx); err != nil {
			return nil, err
		}
	}
	b.Control = emulator.NewControl(b.BitbucketURL)
	if err := b.listenForWebhooks(ctx); err != nil {
		return nil, err
	}
	if err := b.startControlPlane(listeners[0], listeners[1]); err != nil {
		return nil, err
	}
	if err := b.hook(ctx); err != nil {
		return nil, err
	}
	if b.conn, err = grpc.NewClient(b.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return nil, fmt.Errorf("connect to the scaler: %w", err)
	}
	b.node = &node{
		cluster: b.Cluster, dir: config.Dir, binaries: config.Binaries, scaler: b.GRPCAddress, env: config.RunnerEnv,
		log: config.Logger.Named("node"), stop: map[string]context.CancelFunc{},
	}
	b.Cluster.Removed = func(pod fleet.Pod) { b.node.remove(pod.UID) }
	b.keda = newKEDA(b.conn, b.Cluster, config.KEDAInterval, b.createJob, config.Logger.Named("keda"))
	return b, nil
}

func listen(ctx context.Context, n int) ([]net.Listener, error) {
	var config net.ListenConfig
	var listeners []net.Listener
	for range n {
		listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("listen on loopback: %w", err)
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

func (b *Bed) serveBitbucket(ctx context.Context) error {
	listeners, err := listen(ctx, 1)
	if err != nil {
		return err
	}
	listener := listeners[0]
	b.BitbucketURL = "http://" + listener.Addr().String()
	b.server = emulator.New(b.config.Emulator)
	b.http = &http.Server{Handler: b.server, ReadHeaderTimeout: 10 * time.Second}
	b.group.Go(func() error {
		if err := b.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the emulator: %w", err)
		}
		return nil
	})
	return nil
}

// hookKey signs what the emulator delivers.
const hookKey = "emulator-webhook-secret"

// listenForWebhooks gives the control plane a listener for deliveries, if there are any.
func (b *Bed) listenForWebhooks(ctx context.Context) error {
	if !b.config.Webhooks {
		return nil
	}
	listeners, err := listen(ctx, 1)
	if err != nil {
		return err
	}
	b.config.ControlPlane.Webhooks = listeners[0]
	return nil
}

// hook registers the webhook at the emulator, if there is one.
func (b *Bed) hook(ctx context.Context) error {
	if !b.config.Webhooks {
		return nil
	}
	return b.Control.AddWebhook(ctx, emulator.WebhookRequest{
		URL: "http://" + b.config.ControlPlane.Webhooks.Addr().String() + webhook.Path, Secret: hookKey,
	})
}

// HourlyBudget is the default budget of 1,000 calls per hour for the default poll
// interval of a minute, in proportion for a shorter one: an hour shrinks with it.
func HourlyBudget(pollInterval time.Duration) int {
	return 1000 * max(1, int(time.Minute/pollInterval))
}

func (b *Bed) startControlPlane(grpcListener, httpListener net.Listener) error {
	settings := b.config.ControlPlane
	settings.Owner = b.Owner()
	settings.Cluster = b.Cluster
	settings.Bitbucket = bitbucket.Config{BaseURL: b.BitbucketURL, OAuthURL: b.BitbucketURL + "/site/oauth2/access_token"}
	settings.HourlyBudget = HourlyBudget(settings.PollInterval)
	settings.Lookup = func(name string) (string, bool) {
		value, ok := map[string]string{
			"BITBUCKET_OAUTH_CLIENT_ID": "emulator-client", "BITBUCKET_OAUTH_CLIENT_SECRET": "emulator-secret",
			"BITBUCKET_WEBHOOK_SECRET": hookKey,
		}[name]
		return value, ok
	}
	settings.Logger = b.config.Logger
	plane, err := controlplane.New(settings)
	if err != nil {
		return err
	}
	b.Plane = plane
	b.Cluster.Changed = plane.Changed
	b.group.Go(func() error { return plane.Run(b.ctx, grpcListener, httpListener) })
	return nil
}

// Apply creates a ScaledJob, for which KEDA begins to poll.
func (b *Bed) Apply(key fleet.GroupKey, metadata map[string]string) fleet.ScaledJob {
	scaledJob := b.Cluster.Apply(key, metadata)
	ctx, cancel := context.WithCancel(b.ctx)
	b.mu.Lock()
	b.applied[scaledJob.UID] = cancel
	b.mu.Unlock()
	b.keda.watch(ctx, scaledJob)
	return scaledJob
}

// Delete deletes a ScaledJob and its Jobs with their pods, as Kubernetes does.
func (b *Bed) Delete(uid string) {
	b.mu.Lock()
	if cancel := b.applied[uid]; cancel != nil {
		cancel()
	}
	delete(b.applied, uid)
	b.mu.Unlock()
	jobs := b.Cluster.JobsOf(uid)
	b.Cluster.Remove(uid)
	for _, job := range jobs {
		_ = b.Cluster.DeleteJob(b.ctx, job.Namespace, job.Name, job.UID) // it never fails in memory
	}
}

// DeletePod deletes the pod of a Job with its grace period.
func (b *Bed) DeletePod(jobUID string) { b.Cluster.DeletePod(jobUID) }

func (b *Bed) createJob(owner fleet.ScaledJob) {
	job, token := b.Cluster.CreateJob(owner)
	b.node.run(b.ctx, job, token, func(succeeded bool) { b.Cluster.FinishJob(job.UID, succeeded) })
}

// Owner returns the label that marks the control plane's runners.
func (b *Bed) Owner() string {
	return scope.OwnerLabel("testbed", "kube-system", cmp.Or(b.config.Namespace, "testbed"), "")
}

// Groups returns the runner groups as the control plane sees them.
func (b *Bed) Groups() []status.Group { return b.Plane.Status().Groups() }

// Close deletes all ScaledJobs, waits for their pods to end, and stops everything.
func (b *Bed) Close() error {
	for _, scaledJob := range b.Cluster.ScaledJobs() {
		b.Delete(scaledJob.UID)
	}
	if b.keda != nil {
		b.keda.loops.Wait()
	}
	if b.node != nil {
		b.node.pods.Wait()
	}
	b.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	if b.http != nil {
		errs = append(errs, b.http.Shutdown(ctx))
	}
	if b.conn != nil {
		errs = append(errs, b.conn.Close())
	}
	if b.server != nil {
		b.server.Close()
	}
	return errors.Join(append(errs, b.group.Wait())...)
}

// PodLogs returns the logs of all pods so far. Tests print them after a failure.
func (b *Bed) PodLogs() (string, error) {
	entries, err := os.ReadDir(b.config.Dir)
	if err != nil {
		return "", fmt.Errorf("read pod logs: %w", err)
	}
	var all strings.Builder
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".log") {
			continue
		}
		text, err := os.ReadFile(b.config.Dir + "/" + entry.Name())
		if err != nil {
			return "", fmt.Errorf("read pod logs: %w", err)
		}
		fmt.Fprintf(&all, "=== %s\n%s", entry.Name(), text)
	}
	return all.String(), nil
}
