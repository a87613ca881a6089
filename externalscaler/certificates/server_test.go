package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	clocktesting "k8s.io/utils/clock/testing"
)

// client returns a client certificate and its authority.
func client(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	authority, signer, err := newAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := cert.EncodeCertificates(made)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(chain, pem)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := cert.EncodeCertificates(authority)
	if err != nil {
		t.Fatal(err)
	}
	return pair, bundle
}

func TestKEDAMustPresentAClientCertificateIfOneIsRequired(t *testing.T) {
	t.Parallel()
	authority := NewAuthority(&memoryStore{}, names, clocktesting.NewFakeClock(time.Now()), zaptest.NewLogger(t))
	if err := authority.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	keda, theirs := client(t)
	stranger, others := client(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	write := func(content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(theirs)
	clients, err := NewClientAuthorities(file)
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()
	address := serve(t, authority, clients)
	bundle := bundleOf(t, authority)
	if err := call(t, address, trusting(t, bundle, nil, keda)); err != nil {
		t.Errorf("with a certificate: got %v", err)
	}
	if err := call(t, address, trusting(t, bundle, nil)); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "tlsClientCert") {
		t.Errorf("without one: got %v", err)
	}
	if err := call(t, address, trusting(t, bundle, nil, stranger)); err == nil {
		t.Error("a certificate of another authority was accepted")
	}
	// Other clients need no certificate: a sidecar authenticates with a token.
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(trusting(t, bundle, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("another service: got %v", err)
	}
	write(others)
	deadline := time.Now().Add(patience)
	for call(t, address, trusting(t, bundle, nil, stranger)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the changed file was not read again")
		}
	}
	write([]byte("not PEM"))
	for _, path := range []string{file, "/nonexistent"} {
		if _, err := NewClientAuthorities(path); err == nil {
			t.Errorf("%s: accepted as client authorities", path)
		}
	}
}
