package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// errEnded says that a component of the cluster ended by itself.
var errEnded = errors.New("ended by itself")

// health is whether all components run; the first that ends, or the closing of the cluster, ends it.
type health struct {
	once  sync.Once
	ended chan struct{}
	cause error // written before ended is closed
}

func (h *health) fail(cause error) {
	h.once.Do(func() {
		h.cause = cause
		close(h.ended)
	})
}

// while is a context that ends with the health too, the reason being its cause.
func (h *health) while(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-h.ended:
			cancel(h.cause)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// start starts a component that runs as long as the cluster. What it prints goes to its log. If it ends before the
// cluster is closed, everything that waits for the cluster ends with the reason.
func (c *Cluster) start(name, path string, args ...string) error {
	log, err := os.OpenFile(c.logPath(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process holds its own
	// Its life is the cluster's, which the janitor ends, not that of any call.
	cmd := command(context.Background(), path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = c.plan.Dir
	cmd.Env = append(cmd.Env, c.plan.Marker, "HOME="+c.plan.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	c.processes.Go(func() {
		result := cmd.Wait()
		if result == nil {
			result = errors.New("exit status 0")
		}
		c.health.fail(fmt.Errorf("%s %w (%w): %s", name, errEnded, result, c.logTail(name, 15)))
	})
	return nil
}

func (c *Cluster) logPath(name string) string {
	return filepath.Join(c.plan.Dir, "logs", name+".log")
}

func (c *Cluster) logTail(name string, lines int) string {
	content, err := os.ReadFile(c.logPath(name))
	if err != nil {
		return err.Error()
	}
	return tail(string(content), lines)
}

// startControlPlane starts etcd and what serves and moves the API's objects.
func (c *Cluster) startControlPlane() error {
	pki := func(file string) string { return filepath.Join(c.plan.Dir, "pki", file) }
	if err := c.start("etcd", c.binaries.Etcd, "--name=e2e", "--data-dir="+filepath.Join(c.plan.Dir, "etcd"),
		"--listen-client-urls="+etcdClient, "--advertise-client-urls="+etcdClient,
		"--listen-peer-urls="+etcdPeer, "--initial-advertise-peer-urls="+etcdPeer, "--initial-cluster=e2e="+etcdPeer,
		"--unsafe-no-fsync", "--log-level=warn"); err != nil {
		return err
	}
	return c.start("kube-apiserver", c.binaries.APIServer, "--etcd-servers="+etcdClient,
		"--bind-address="+nodeIP, "--advertise-address="+nodeIP, "--secure-port="+apiPort, "--endpoint-reconciler-type=lease",
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"), "--client-ca-file="+pki("ca.crt"),
		"--kubelet-client-certificate="+pki("apiserver-kubelet.crt"), "--kubelet-client-key="+pki("apiserver-kubelet.key"),
		"--kubelet-certificate-authority="+pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file="+pki("ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+pki("front-proxy.crt"), "--proxy-client-key-file="+pki("front-proxy.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+pki("sa.pub"), "--service-account-signing-key-file="+pki("sa.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range="+serviceCIDR, "--allow-privileged=true", "--profiling=false")
}

// startControllers starts what needs the API server.
func (c *Cluster) startControllers() error {
	kubeconfig := func(user string) string { return filepath.Join(c.plan.Dir, user+".kubeconfig") }
	clients := func(user string) []string {
		file := kubeconfig(user)
		return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file,
			"--bind-address=127.0.0.1", "--leader-elect=false"}
	}
	return errors.Join(
		c.start("kube-controller-manager", c.binaries.ControllerManager, append(clients("kube-controller-manager"),
			"--secure-port=10257", "--use-service-account-credentials=true", "--profiling=false",
			"--service-account-private-key-file="+filepath.Join(c.plan.Dir, "pki/sa.key"),
			"--root-ca-file="+filepath.Join(c.plan.Dir, "pki/ca.crt"))...),
		c.start("kube-scheduler", c.binaries.Scheduler, append(clients("kube-scheduler"), "--secure-port=10259")...),
		c.start("kubelet", c.binaries.Kubelet, "--kubeconfig="+kubeconfig("kubelet"),
			"--config="+filepath.Join(c.plan.Dir, "kubelet.yaml"), "--hostname-override="+nodeName, "--node-ip="+nodeIP,
			"--root-dir="+filepath.Join(c.plan.Dir, "kubelet"), "--v=2"),
		c.start("kube-proxy", c.binaries.KubeProxy, "--config="+filepath.Join(c.plan.Dir, "kube-proxy.yaml"), "--v=1"),
	)
}
