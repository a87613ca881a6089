package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"bitbucket-runner-scaler/e2e/process"
)

// ControlPlane is a Kubernetes without a node: real etcd, API server, controllers,
// scheduler and KEDA operator, as plain processes on loopback. It needs no root and
// none of the machine's settings, so several can run at the same time, also with a
// Cluster. The user provides the nodes. Its methods can be called at the same
// time.
type ControlPlane struct {
	dir      string
	binaries Binaries
	ports    map[string]string
	rest     *rest.Config
	client   *kubernetes.Clientset
	api      *process.Process
	others   []*process.Process // in the order of their start
}

// The ports, which are chosen at each start.
const (
	portEtcd, portEtcdPeer           = "etcd", "etcd-peer"
	portAPI                          = "api"
	portControllers, portScheduler   = "controllers", "scheduler"
	portKEDA, portKEDA2, portKEDARPC = "keda-metrics", "keda-health", "keda-grpc"
)

// StartControlPlane builds what is not built yet and starts a ControlPlane below dir,
// which must exist. Its parts die with this process at the latest.
func StartControlPlane(ctx context.Context, dir string, out io.Writer) (c *ControlPlane, err error) {
	c = &ControlPlane{dir: dir}
	if c.binaries, err = Build(ctx, out); err != nil {
		return nil, err
	}
	if c.ports, err = freePorts(ctx, portEtcd, portEtcdPeer, portAPI, portControllers, portScheduler, portKEDA, portKEDA2, portKEDARPC); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("not up within %s", startPatience))
	defer cancel()
	if err := c.bringUp(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("starting the control plane: %w", err)
	}
	return c, nil
}

// freePorts finds free ports of loopback, by the names of their use. Another process
// could take one before its user does; then that one says so.
func freePorts(ctx context.Context, names ...string) (map[string]string, error) {
	ports := map[string]string{}
	var config net.ListenConfig
	for _, name := range names {
		listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		defer func() { _ = listener.Close() }()
		_, ports[name], _ = net.SplitHostPort(listener.Addr().String()) // a listener's address has this form
	}
	return ports, nil
}

func (c *ControlPlane) bringUp(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(c.dir, "logs"), 0o755); err != nil {
		return err
	}
	if err := c.writePKI(); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 2000
	c.rest = config
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if err := c.start("etcd", c.binaries.Etcd, nil, "--name=chaos", "--data-dir="+filepath.Join(c.dir, "etcd"),
		"--listen-client-urls="+c.etcd(portEtcd), "--advertise-client-urls="+c.etcd(portEtcd),
		"--listen-peer-urls="+c.etcd(portEtcdPeer), "--initial-advertise-peer-urls="+c.etcd(portEtcdPeer),
		"--initial-cluster=chaos="+c.etcd(portEtcdPeer), "--unsafe-no-fsync", "--log-level=error"); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := c.startControllers(); err != nil {
		return err
	}
	return c.startKEDA(ctx)
}

func (c *ControlPlane) etcd(port string) string { return "http://127.0.0.1:" + c.ports[port] }

// writePKI makes certificates and kubeconfigs.
func (c *ControlPlane) writePKI() error {
	ca, err := newAuthority(filepath.Join(c.dir, "pki"))
	if err != nil {
		return err
	}
	loopback, names := []string{"127.0.0.1"}, []string{"localhost"}
	for _, s := range []subject{
		{file: "apiserver", name: "kube-apiserver", ips: loopback, dns: names},
		{file: "front-proxy", name: "front-proxy"},
		{file: "keda", name: "keda-operator", ips: loopback, dns: names},
		{file: "admin", name: "admin", groups: []string{"system:masters"}},
		{file: "kube-controller-manager", name: "system:kube-controller-manager"},
		{file: "kube-scheduler", name: "system:kube-scheduler"},
	} {
		if err := ca.issue(s); err != nil {
			return err
		}
	}
	for _, user := range []string{"admin", "kube-controller-manager", "kube-scheduler"} {
		if err := ca.writeKubeconfigFor(c.Server(), user, filepath.Join(c.dir, user+".kubeconfig")); err != nil {
			return err
		}
	}
	return errors.Join(ca.writeServiceAccountKey(), c.writeKEDACertificates())
}

// writeKEDACertificates puts what KEDA's operator reads where it looks for it.
func (c *ControlPlane) writeKEDACertificates() error {
	dir := filepath.Join(c.dir, "keda")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for from, to := range map[string]string{"ca.crt": "ca.crt", "keda.crt": "tls.crt", "keda.key": "tls.key"} {
		content, err := os.ReadFile(c.pki(from))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, to), content, 0o600); err != nil { //nolint:gosec // the names stand above
			return err
		}
	}
	return nil
}

func (c *ControlPlane) pki(file string) string { return filepath.Join(c.dir, "pki", file) }

func (c *ControlPlane) start(name, program string, environment []string, arguments ...string) error {
	p, err := process.Start(filepath.Join(c.dir, "logs", name+".log"), environmentWith(c.dir, environment...), program, arguments...)
	if err != nil {
		return err
	}
	c.others = append(c.others, p)
	return nil
}

func environmentWith(home string, variables ...string) []string {
	return environment(append([]string{"HOME=" + home}, variables...)...)
}

// StartAPIServer starts the API server, initially or after StopAPIServer, and waits
// until it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	p, err := process.Start(filepath.Join(c.dir, "logs", "kube-apiserver.log"), environmentWith(c.dir), c.binaries.APIServer,
		"--etcd-servers="+c.etcd(portEtcd), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--secure-port="+c.ports[portAPI], "--endpoint-reconciler-type=none",
		"--tls-cert-file="+c.pki("apiserver.crt"), "--tls-private-key-file="+c.pki("apiserver.key"), "--client-ca-file="+c.pki("ca.crt"),
		"--requestheader-client-ca-file="+c.pki("ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.pki("sa.pub"), "--service-account-signing-key-file="+c.pki("sa.key"),
		"--authorization-mode=RBAC",
		// Nobody is to be put off in favour of others here.
		"--enable-priority-and-fairness=false", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
		"--service-cluster-ip-range="+serviceCIDR, "--allow-privileged=true", "--profiling=false")
	if err != nil {
		return err
	}
	c.api = p
	return waitFor(ctx, "the API server", func(ctx context.Context) error {
		select {
		case <-p.Done():
			return fmt.Errorf("kube-apiserver %w: %w: %s", errEnded, p.Err(), c.LogTail("kube-apiserver", 15))
		default:
		}
		return c.client.RESTClient().Get().AbsPath("/readyz").Timeout(2 * time.Second).Do(ctx).Error()
	})
}

// StopAPIServer kills the API server.
func (c *ControlPlane) StopAPIServer() { c.api.Kill() }

// controllers are the controllers that runner Jobs need. The others would only cost time.
var controllers = []string{
	"job-controller", "garbage-collector-controller", "pod-garbage-collector-controller", "namespace-controller",
	"serviceaccount-controller", "node-lifecycle-controller", "taint-eviction-controller", "ttl-after-finished-controller",
}

func (c *ControlPlane) startControllers() error {
	clients := func(user string) []string {
		file := filepath.Join(c.dir, user+".kubeconfig")
		return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file,
			"--bind-address=127.0.0.1", "--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400"}
	}
	return errors.Join(
		c.start("kube-controller-manager", c.binaries.ControllerManager, nil, append(clients("kube-controller-manager"),
			"--secure-port="+c.ports[portControllers], "--use-service-account-credentials=true", "--profiling=false",
			"--controllers="+strings.Join(controllers, ","), "--node-monitor-grace-period=20s", "--node-monitor-period=2s",
			"--service-account-private-key-file="+c.pki("sa.key"), "--root-ca-file="+c.pki("ca.crt"))...),
		c.start("kube-scheduler", c.binaries.Scheduler, nil, append(clients("kube-scheduler"), "--secure-port="+c.ports[portScheduler])...),
	)
}

// kedaNamespace is where the operator believes to be.
const kedaNamespace = "keda"

// startKEDA installs KEDA's types and starts its operator, as administrator.
func (c *ControlPlane) startKEDA(ctx context.Context) error {
	manifest, err := os.ReadFile(c.binaries.KEDAManifest)
	if err != nil {
		return err
	}
	documents := bytes.Split(manifest, []byte("\n---\n"))
	types := slices.DeleteFunc(documents, func(document []byte) bool {
		return !bytes.Contains(document, []byte("\nkind: CustomResourceDefinition\n"))
	})
	if _, err := c.Kubectl(ctx, bytes.NewReader(bytes.Join(types, []byte("\n---\n"))), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: kedaNamespace}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if _, err := c.Kubectl(ctx, nil, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return err
	}
	at := func(port string) string { return "127.0.0.1:" + c.ports[port] }
	return c.start("keda", c.binaries.KEDA,
		[]string{"POD_NAMESPACE=" + kedaNamespace, "KEDA_CLUSTER_OBJECT_NAMESPACE=" + kedaNamespace, "WATCH_NAMESPACE=", "KUBECONFIG=" + c.Kubeconfig(),
			"KEDA_SCALEDJOB_CTRL_MAX_RECONCILES=5"},
		"--leader-elect=false", "--metrics-bind-address="+at(portKEDA), "--health-probe-bind-address="+at(portKEDA2),
		"--metrics-service-bind-address="+at(portKEDARPC), "--cert-dir="+filepath.Join(c.dir, "keda"),
		"--enable-cert-rotation=false",
		"--kube-api-qps=200", "--kube-api-burst=400", "--zap-log-level=info", "--zap-encoder=json")
}

// Kubectl runs kubectl as administrator and returns what it printed.
func (c *ControlPlane) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, kubectlPatience)
	defer cancel()
	cmd := command(ctx, c.binaries.Kubectl, args...)
	cmd.Env = environmentWith(c.dir, "KUBECONFIG="+c.Kubeconfig())
	cmd.Stdin = stdin
	var out, failure strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failure
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(failure.String()))
	}
	return out.String(), nil
}

// Server is the API server's URL, CAFile the certificate of its authority.
func (c *ControlPlane) Server() string { return "https://127.0.0.1:" + c.ports[portAPI] }

// CAFile returns the path of the certificate of the API server's authority.
func (c *ControlPlane) CAFile() string { return c.pki("ca.crt") }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *ControlPlane) Kubeconfig() string { return filepath.Join(c.dir, "admin.kubeconfig") }

// RESTConfig returns a copy of the administrator's client configuration.
func (c *ControlPlane) RESTConfig() *rest.Config { return rest.CopyConfig(c.rest) }

// LogTail returns the end of a component's log.
func (c *ControlPlane) LogTail(name string, lines int) string {
	content, err := os.ReadFile(filepath.Join(c.dir, "logs", name+".log"))
	if err != nil {
		return err.Error()
	}
	return tail(string(content), lines)
}

// Close stops everything. The directory remains.
func (c *ControlPlane) Close() {
	for _, p := range slices.Backward(c.others) {
		p.Kill()
	}
	if c.api != nil {
		c.api.Kill()
	}
}
