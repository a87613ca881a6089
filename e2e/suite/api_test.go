package suite

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/utils/ptr"

	"bitbucket-runner-scaler/e2e/installation"
)

func isGone(err error) bool { return apierrors.IsNotFound(err) }

// pods returns a group's pods, oldest first, including ended ones.
func pods(t *testing.T, group string) []corev1.Pod {
	t.Helper()
	list, err := shared.client.CoreV1().Pods(installation.Runners).List(context.WithoutCancel(t.Context()), metav1.ListOptions{LabelSelector: "scaledjob.keda.sh/name=" + group})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return list.Items
}

// replicas returns the control plane's pods. The leader is the pod that the Service
// selects.
func replicas(t *testing.T) (all []corev1.Pod, leader corev1.Pod) {
	t.Helper()
	list, err := shared.client.CoreV1().Pods(installation.ControlPlane).List(context.WithoutCancel(t.Context()), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + installation.Scaler})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range list.Items {
		if pod.Labels["bitbucket-runner-scaler/role"] == "leader" && pod.DeletionTimestamp == nil {
			leader = pod
		}
	}
	return list.Items, leader
}

// holder returns the identity of the leading process, which begins with the pod's name.
func holder(t *testing.T) string {
	t.Helper()
	lease, err := shared.client.CoordinationV1().Leases(installation.ControlPlane).Get(context.WithoutCancel(t.Context()), installation.Scaler, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

// dial connects to the scaler's Service as KEDA does. This machine is the node.
func dial(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	service, err := shared.client.CoreV1().Services(installation.ControlPlane).Get(t.Context(), installation.Scaler, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(net.JoinHostPort(service.Spec.ClusterIP, "9090"), append(options, grpc.WithTransportCredentials(credentials.NewTLS(trusting(t))))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// authorities returns the authorities that the scaler publishes to the runners' namespace,
// in PEM.
func authorities(t *testing.T) []byte {
	t.Helper()
	bundle, err := shared.client.CoreV1().ConfigMaps(installation.Runners).Get(t.Context(), "bitbucket-runner-scaler-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return []byte(bundle.Data["ca.crt"])
}

// serverName is one of the names in the scaler's certificate.
const serverName = installation.Scaler + "." + installation.ControlPlane + ".svc.cluster.local"

// trusting verifies the scaler with the authorities that it publishes.
func trusting(t *testing.T) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if bundle := authorities(t); !roots.AppendCertsFromPEM(bundle) {
		t.Fatalf("no certificate in %q", bundle)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: serverName}
}

// metric reads a metric of the leader by its name with labels. It returns 0 if there is
// none.
func metric(t *testing.T, name string) float64 {
	t.Helper()
	text, err := shared.Kube.Run(context.WithoutCancel(t.Context()), "", "get", "--raw", "/api/v1/namespaces/"+installation.ControlPlane+"/services/http:"+installation.Scaler+":http/proxy/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	return 0
}
