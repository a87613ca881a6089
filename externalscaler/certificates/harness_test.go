package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/tls/certprovider"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	clocktesting "k8s.io/utils/clock/testing"
)

// patience bounds every wait for a condition.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var names = []string{"scaler.system.svc", "localhost", "127.0.0.1"}

// memoryStore is a Store in memory.
type memoryStore struct {
	mu      sync.Mutex
	pair    Pair
	version int
}

func (s *memoryStore) Load(context.Context) (Pair, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pair, strconv.Itoa(s.version), nil
}

func (s *memoryStore) Save(_ context.Context, pair Pair, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version != strconv.Itoa(s.version) {
		return ErrConflict
	}
	s.pair = pair
	s.version++
	return nil
}

// serve serves ExternalScaler and health over TLS, and returns the address.
func serve(t *testing.T, source Source, clients certprovider.Provider) string {
	t.Helper()
	server := grpc.NewServer(ServerOptions(source, clients)...)
	pb.RegisterExternalScalerServer(server, pb.UnimplementedExternalScalerServer{})
	healthpb.RegisterHealthServer(server, health.NewServer())
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// call makes one call over a new connection.
func call(t *testing.T, address string, creds credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = pb.NewExternalScalerClient(conn).IsActive(ctx, &pb.ScaledObjectRef{})
	if status.Code(err) == codes.Unimplemented {
		return nil // the call reached the server
	}
	return err
}

func trusting(t *testing.T, bundle []byte, clock *clocktesting.FakeClock, own ...tls.Certificate) credentials.TransportCredentials {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		t.Fatal("no certificate in the bundle")
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Certificates: own}
	if clock != nil {
		config.Time = clock.Now
	}
	return credentials.NewTLS(config)
}

func bundleOf(t *testing.T, source Source) []byte {
	t.Helper()
	bundle, err := source.Bundle(t.Context())
	if err != nil || bundle == nil {
		t.Fatalf("bundle: %d bytes, %v", len(bundle), err)
	}
	return bundle
}
