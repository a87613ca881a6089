package certificates

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/pause"
)

// The keys under which a Pair is stored. The last two are the keys of a Kubernetes TLS
// Secret.
const (
	BundleKey       = "ca.crt"
	AuthorityKeyKey = "ca.key"
	ChainKey        = "tls.crt"
	KeyKey          = "tls.key"
)

// ErrConflict means that another replica has stored a pair in the meantime.
var ErrConflict = errors.New("another replica has stored it in the meantime")

// Store stores the pair where every replica reads it.
type Store interface {
	// Load returns the stored pair and its version. If none is stored, the pair is empty.
	Load(ctx context.Context) (pair Pair, version string, err error)
	// Save replaces the pair of that version. It returns ErrConflict if the stored
	// version is another.
	Save(ctx context.Context, pair Pair, version string) error
}

// Times of an Authority.
const (
	// checkInterval bounds how long a replica serves a certificate that another replica
	// has renewed.
	checkInterval = time.Minute
	retryInterval = 2 * time.Second
	callTimeout   = 10 * time.Second
	// conflicts bounds how often Start tries again after a conflict with other replicas.
	conflicts = 5
)

// Authority is the control plane's own certificate authority. Safe for concurrent use.
type Authority struct {
	store Store
	names []string
	clock clock.WithTicker
	log   *zap.Logger

	served atomic.Pointer[served]
}

// served is a pair in the form in which a server uses it.
type served struct {
	pair Pair
	tls  *tls.Certificate
}

// NewAuthority returns an Authority. names are the DNS names and IP addresses of its
// server certificate.
func NewAuthority(store Store, names []string, clock clock.WithTicker, log *zap.Logger) *Authority {
	return &Authority{store: store, names: names, clock: clock, log: log}
}

// Start reads the pair, or makes it if there is none. After that, calls can be served.
func (a *Authority) Start(ctx context.Context) (err error) {
	for range conflicts {
		if err = a.check(ctx); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return err
}

// Run renews certificates that are due, and serves those that another replica has
// renewed, until ctx ends.
func (a *Authority) Run(ctx context.Context) error {
	failing := false
	for {
		err := a.check(ctx)
		if failed := err != nil && !errors.Is(err, ErrConflict); failed != failing && ctx.Err() == nil {
			failing = failed
			a.log.Warn("checking the certificates", zap.Bool("failing", failing), zap.Error(err))
		}
		wait := checkInterval
		if err != nil {
			wait = retryInterval
		}
		if !pause.For(ctx, a.clock, wait, nil) {
			return nil
		}
	}
}

// check reads the stored pair and renews it if that is due.
func (a *Authority) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pair, version, err := a.store.Load(ctx)
	if err != nil {
		return err
	}
	next, changed, err := renewed(a.clock.Now(), pair, a.names)
	if err != nil {
		return fmt.Errorf("the stored certificates cannot be used, correct or delete them: %w", err)
	}
	if changed {
		if err := a.store.Save(ctx, next, version); err != nil {
			return err
		}
	}
	if now := a.served.Load(); now != nil && now.pair.equal(next) {
		return nil
	}
	certificate, err := tls.X509KeyPair(next.Chain, next.Key)
	if err != nil {
		return fmt.Errorf("the stored certificates cannot be used, correct or delete them: %s: %w", ChainKey, err)
	}
	a.served.Store(&served{pair: next, tls: &certificate})
	a.log.Info("serving a certificate", zap.Time("notAfter", certificate.Leaf.NotAfter), zap.Strings("names", a.names), zap.Bool("made", changed))
	return nil
}

// Certificate returns the certificate for a new connection.
func (a *Authority) Certificate(context.Context) (*tls.Certificate, error) {
	now := a.served.Load()
	if now == nil {
		return nil, errors.New("no certificate yet")
	}
	return now.tls, nil
}

// Bundle returns the authorities to trust, in PEM. It returns nil before Start.
func (a *Authority) Bundle(context.Context) ([]byte, error) {
	if now := a.served.Load(); now != nil {
		return now.pair.Bundle, nil
	}
	return nil, nil
}
