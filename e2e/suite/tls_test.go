package suite

import (
	"crypto/tls"
	"math/big"
	"net"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bitbucket-runner-scaler/e2e/installation"
)

// A certificate is renewed before it expires. A deleted one is renewed at once, so the test
// deletes it. The other tests must not notice.
func TestRenewedCertificateLosesNoStepAndNoPoll(t *testing.T) {
	t.Parallel()
	group(t, "renewed", map[string]string{"min": "1", "max": "4"})
	untilOnline(t, "renewed", 1, 0)
	before := served(t)
	steps := queue(t, "renewed", 8, "15s")
	untilBusy(t, "renewed", 2)
	secrets := shared.client.CoreV1().Secrets(installation.ControlPlane)
	if _, err := secrets.Patch(t.Context(), "bitbucket-runner-scaler-tls", types.MergePatchType, []byte(`{"data":{"tls.crt":"","tls.key":""}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "another certificate to be served", func() (bool, error) { return served(t).Cmp(before) != 0, nil })
	untilDone(t, "renewed", steps)
	text, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "get", "events", "--field-selector", "involvedObject.name=renewed,reason=KEDAScalerFailed", "-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	for message := range strings.Lines(text) {
		// KEDA 2.17 also reports calls that it cancels itself, when it reads a ScaledJob again.
		if !strings.Contains(message, "code = Canceled desc = context canceled") {
			t.Errorf("KEDA's polls failed: %s", message)
		}
	}
}

// served returns the serial number of the certificate that the scaler serves now.
func served(t *testing.T) *big.Int {
	t.Helper()
	service, err := shared.client.CoreV1().Services(installation.ControlPlane).Get(t.Context(), installation.Scaler, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := trusting(t)
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", net.JoinHostPort(service.Spec.ClusterIP, "9090"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber
}
