package certificates

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestRenewalsFailNoCallOfClientsThatTrustTheOldOrTheNewAuthority(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC))
	authority := NewAuthority(&memoryStore{}, names, clock, zaptest.NewLogger(t))
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
	// In eight years, one month at a time, there are about fifty server certificates,
	// and a second authority before the first expires.
	for range 8 * 12 {
		clock.Step(30 * 24 * time.Hour)
		if err := authority.check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now := leaf(); !now.Equal(before) {
			before, leaves = now, leaves+1
		}
		if now := bundleOf(t, authority); string(now) != string(bundle) {
			bundle, authorities = now, authorities+1
		}
		for client, trusted := range map[string][]byte{"trusting the first authority": first, "trusting the current bundle": bundle} {
			if err := call(t, address, trusting(t, trusted, clock)); err != nil {
				t.Fatalf("%s at %s: %v", client, clock.Now(), err)
			}
		}
	}
	if leaves < 40 || authorities != 2 {
		t.Errorf("%d server certificates and %d authorities, want at least 40, and 2", leaves, authorities)
	}
	stranger := NewAuthority(&memoryStore{}, names, clock, zaptest.NewLogger(t))
	if err := stranger.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := call(t, address, trusting(t, bundleOf(t, stranger), clock)); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("trusting another authority: got %v", err)
	}
	if err := call(t, address, insecure.NewCredentials()); err == nil {
		t.Error("a call in plain text was answered")
	}
}

func TestReplicasThatStartAtTheSameTimeShareOneAuthority(t *testing.T) {
	store := &memoryStore{}
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
			t.Errorf("replica %d has another authority", i)
		}
	}
}

func TestReplicaServesACertificateThatAnotherRenewed(t *testing.T) {
	store := &memoryStore{}
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
	if err := first.check(ctx); err != nil && !errors.Is(err, ErrConflict) {
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
		if err := first.check(ctx); err != nil && !errors.Is(err, ErrConflict) {
			t.Fatal(err)
		}
		clock.Step(checkInterval)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestUnreadableCertificatesAreNotReplaced(t *testing.T) {
	good := &memoryStore{}
	clock := clocktesting.NewFakeClock(time.Now())
	if err := NewAuthority(good, names, clock, zaptest.NewLogger(t)).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, _, err := fresh(time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	for name, corrupt := range map[string]func(*Pair){
		"the bundle":                      func(p *Pair) { p.Bundle = []byte("not PEM") },
		"the authority's key":             func(p *Pair) { p.AuthorityKey = nil },
		"the authority's key, of another": func(p *Pair) { p.AuthorityKey = other.AuthorityKey },
		"only the bundle is missing":      func(p *Pair) { p.Bundle = nil },
	} {
		store := &memoryStore{pair: good.pair}
		corrupt(&store.pair)
		corrupted := store.pair
		if err := NewAuthority(store, names, clock, zaptest.NewLogger(t)).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "correct or delete") || !store.pair.equal(corrupted) {
			t.Errorf("%s: got %v, the stored pair is replaced: %v", name, err, !store.pair.equal(corrupted))
		}
	}
	for name, corrupt := range map[string]func(*Pair){
		"the server's certificate": func(p *Pair) { p.Chain = []byte("not PEM") },
		"the server's key":         func(p *Pair) { p.Key = other.Key },
	} {
		store := &memoryStore{pair: good.pair}
		corrupt(&store.pair)
		if err := NewAuthority(store, names, clock, zaptest.NewLogger(t)).Start(t.Context()); err != nil || string(store.pair.Bundle) != string(good.pair.Bundle) {
			t.Errorf("%s, which the authority can make again: got %v", name, err)
		}
	}
	store := &memoryStore{pair: good.pair}
	if err := NewAuthority(store, append(names, "another.name"), clock, zaptest.NewLogger(t)).Start(t.Context()); err != nil || store.pair.equal(good.pair) {
		t.Errorf("another name: got %v, made again: %v", err, !store.pair.equal(good.pair))
	}
}
