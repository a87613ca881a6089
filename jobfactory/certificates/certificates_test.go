package certificates

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	clocktesting "k8s.io/utils/clock/testing"
)

// patience bounds every wait for a condition.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var names = []string{"scaler.system.svc", "localhost", "127.0.0.1"}

// shelf is a Store in memory.
type shelf struct {
	mu      sync.Mutex
	pair    Pair
	version int
}

func (s *shelf) Load(context.Context) (Pair, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pair, strconv.Itoa(s.version), nil
}

func (s *shelf) Save(_ context.Context, pair Pair, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version != strconv.Itoa(s.version) {
		return ErrConflict
	}
	s.pair = pair
	s.version++
	return nil
}

// serve serves ExternalScaler and health over TLS, and gives the address.
func serve(t *testing.T, source Source, clients []byte) string {
	t.Helper()
	options, err := ServerOptions(source, clients)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
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

// call makes one call over a connection of its own.
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
		return nil // it came through
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

func TestRenewalsFailNoCallOfWhoeverTrustsTheOldOrTheNew(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC))
	authority := NewAuthority(&shelf{}, names, clock, zaptest.NewLogger(t))
	if err := authority.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	address := serve(t, authority, nil)
	first := bundleOf(t, authority)
	leaf := func() *x509.Certificate {
		certificate, err := authority.Certificate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return certificate.Leaf
	}
	leaves, authorities := 1, 1
	before, bundle := leaf(), first
	// Eight years, a month at a time: some fifty server certificates, and a second
	// authority before the first ends.
	for range 8 * 12 {
		clock.Step(30 * 24 * time.Hour)
		if err := authority.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now := leaf(); !now.Equal(before) {
			before, leaves = now, leaves+1
		}
		if now := bundleOf(t, authority); string(now) != string(bundle) {
			bundle, authorities = now, authorities+1
		}
		for who, trusted := range map[string][]byte{"who trusts the first authority": first, "who trusts the present bundle": bundle} {
			if err := call(t, address, trusting(t, trusted, clock)); err != nil {
				t.Fatalf("%s at %s: %v", who, clock.Now(), err)
			}
		}
	}
	if leaves < 40 || authorities != 2 {
		t.Errorf("%d server certificates and %d authorities, want 40 or more, and 2", leaves, authorities)
	}
	stranger := NewAuthority(&shelf{}, names, clock, zaptest.NewLogger(t))
	if err := stranger.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := call(t, address, trusting(t, bundleOf(t, stranger), clock)); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("who trusts another authority: got %v", err)
	}
	if err := call(t, address, insecure.NewCredentials()); err == nil {
		t.Error("plain text was answered")
	}
}

func TestReplicasThatStartAtOnceAgreeOnOneAuthority(t *testing.T) {
	store := &shelf{}
	clock := clocktesting.NewFakeClock(time.Now())
	var replicas [8]*Authority
	var starting sync.WaitGroup
	for i := range replicas {
		replicas[i] = NewAuthority(store, names, clock, zaptest.NewLogger(t))
		starting.Go(func() {
			for errors.Is(replicas[i].Start(t.Context()), ErrConflict) {
			}
		})
	}
	starting.Wait()
	for i, replica := range replicas {
		if got := bundleOf(t, replica); string(got) != string(bundleOf(t, replicas[0])) {
			t.Errorf("replica %d has an authority of its own", i)
		}
	}
}

func TestOneReplicaServesWhatAnotherRenewed(t *testing.T) {
	store := &shelf{}
	clock := clocktesting.NewFakeClock(time.Now())
	first, second := NewAuthority(store, names, clock, zaptest.NewLogger(t)), NewAuthority(store, names, clock, zaptest.NewLogger(t))
	for _, replica := range []*Authority{first, second} {
		if err := replica.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	clock.Step(ServerLife - 24*time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- second.Run(ctx) }()
	if err := first.look(ctx); err != nil && !errors.Is(err, ErrConflict) {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		a, errA := first.Certificate(ctx)
		b, errB := second.Certificate(ctx)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if a.Leaf.Equal(b.Leaf) && a.Leaf.NotAfter.After(clock.Now().Add(ServerLife/2)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the two serve different certificates")
		}
		if err := first.look(ctx); err != nil && !errors.Is(err, ErrConflict) {
			t.Fatal(err)
		}
		clock.Step(lookEvery)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeReadIsNotReplaced(t *testing.T) {
	good := &shelf{}
	clock := clocktesting.NewFakeClock(time.Now())
	if err := NewAuthority(good, names, clock, zaptest.NewLogger(t)).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, _, err := fresh(time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Pair){
		"the bundle":                        func(p *Pair) { p.Bundle = []byte("not PEM") },
		"the authority's key":               func(p *Pair) { p.AuthorityKey = nil },
		"the authority's key, of another":   func(p *Pair) { p.AuthorityKey = other.AuthorityKey },
		"the bundle, and there is the rest": func(p *Pair) { p.Bundle = nil },
	} {
		store := &shelf{pair: good.pair}
		spoil(&store.pair)
		spoilt := store.pair
		if err := NewAuthority(store, names, clock, zaptest.NewLogger(t)).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "mend or delete") || !store.pair.equal(spoilt) {
			t.Errorf("%s: got %v, and what was stored is replaced: %v", name, err, !store.pair.equal(spoilt))
		}
	}
	for name, spoil := range map[string]func(*Pair){
		"the server's certificate": func(p *Pair) { p.Chain = []byte("not PEM") },
		"the server's key":         func(p *Pair) { p.Key = other.Key },
	} {
		store := &shelf{pair: good.pair}
		spoil(&store.pair)
		if err := NewAuthority(store, names, clock, zaptest.NewLogger(t)).Start(t.Context()); err != nil || string(store.pair.Bundle) != string(good.pair.Bundle) {
			t.Errorf("%s, which the authority can make anew: got %v", name, err)
		}
	}
	store := &shelf{pair: good.pair}
	if err := NewAuthority(store, append(names, "another.name"), clock, zaptest.NewLogger(t)).Start(t.Context()); err != nil || store.pair.equal(good.pair) {
		t.Errorf("a further name: got %v, made anew: %v", err, !store.pair.equal(good.pair))
	}
}

func TestTheUsersOwnFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	write := func(p Pair) {
		t.Helper()
		for name, content := range map[string][]byte{"tls.crt": p.Chain, "tls.key": p.Key, "ca.crt": p.Bundle} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, _, err := fresh(time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := fresh(time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	write(first)
	files, err := NewFiles(t.Context(), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	address := serve(t, files, nil)
	if err := call(t, address, trusting(t, bundleOf(t, files), nil)); err != nil {
		t.Fatal(err)
	}
	write(second)
	deadline := time.Now().Add(patience)
	for call(t, address, trusting(t, second.Bundle, nil)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the changed files are not served")
		}
	}
	if got := bundleOf(t, files); string(got) != string(second.Bundle) {
		t.Error("the old authority is published")
	}
	for name, path := range map[string][3]string{
		"no such file":  {"/nonexistent", filepath.Join(dir, "tls.key"), ""},
		"not a key":     {filepath.Join(dir, "tls.crt"), filepath.Join(dir, "ca.crt"), ""},
		"not a bundle":  {filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "tls.key")},
		"no such trust": {filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), "/nonexistent"},
	} {
		if files, err := NewFiles(t.Context(), path[0], path[1], path[2]); err == nil {
			files.Close()
			t.Errorf("%s: got no error", name)
		}
	}
}

// client makes a client certificate, and the authority that it is of.
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

func TestKEDAMustShowACertificateWhereOneIsAskedFor(t *testing.T) {
	authority := NewAuthority(&shelf{}, names, clocktesting.NewFakeClock(time.Now()), zaptest.NewLogger(t))
	if err := authority.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	keda, clients := client(t)
	stranger, _ := client(t)
	address := serve(t, authority, clients)
	bundle := bundleOf(t, authority)
	if err := call(t, address, trusting(t, bundle, nil, keda)); err != nil {
		t.Errorf("with it: got %v", err)
	}
	if err := call(t, address, trusting(t, bundle, nil)); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "tlsClientCert") {
		t.Errorf("without one: got %v", err)
	}
	if err := call(t, address, trusting(t, bundle, nil, stranger)); err == nil {
		t.Error("one of another authority was accepted")
	}
	// Who is no KEDA needs none: a sidecar proves who it is with a token.
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(trusting(t, bundle, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("another service: got %v", err)
	}
	if _, err := ServerOptions(authority, []byte("not PEM")); err == nil {
		t.Error("client authorities that are none were accepted")
	}
}

// board is Maps in memory.
type board struct {
	mu    sync.Mutex
	posts map[string]string
	// theirs are the namespaces whose ConfigMap is somebody else's.
	theirs map[string]bool
}

func (b *board) Publish(_ context.Context, namespace string, bundle []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.theirs[namespace] {
		return errors.New("not ours")
	}
	b.posts[namespace] = string(bundle)
	return nil
}

func (b *board) Withdraw(_ context.Context, namespace string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.posts, namespace)
	return nil
}

func (b *board) Published(context.Context) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.posts)), nil
}

func TestTheAuthorityIsWhereItIsNeededAndNowhereElse(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	authority := NewAuthority(&shelf{}, names, clock, zaptest.NewLogger(t))
	if err := authority.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	posts := &board{posts: map[string]string{"left": "old"}, theirs: map[string]bool{"theirs": true}}
	wanted := []string{"system", "team", "theirs"}
	p := NewPublisher(authority, posts, func() []string { return wanted }, clock, zaptest.NewLogger(t))
	publish := func(want ...string) {
		t.Helper()
		if err := p.publish(t.Context()); err != nil {
			t.Error(err)
		}
		got, err := posts.Published(t.Context())
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("published in %v, %v, want %v", got, err, want)
		}
		for namespace, bundle := range posts.posts {
			if bundle != string(bundleOf(t, authority)) {
				t.Errorf("%s has another bundle", namespace)
			}
		}
	}
	publish("system", "team")
	wanted = []string{"system", "other"}
	publish("other", "system")
	posts.posts = map[string]string{"system": "spoilt"} // somebody did that
	clock.Step(checkEvery)
	publish("other", "system")
	clock.Step(8 * 365 * 24 * time.Hour)
	if err := authority.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish("other", "system")
}
