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

// Keys under which a Pair is stored. The last two are those of Kubernetes' TLS
// Secrets.
const (
	BundleKey       = "ca.crt"
	AuthorityKeyKey = "ca.key"
	ChainKey        = "tls.crt"
	KeyKey          = "tls.key"
)

// ErrConflict says that somebody else stored a pair meanwhile.
var ErrConflict = errors.New("another replica has stored it meanwhile")

// Store keeps the pair where every replica reads it.
type Store interface {
	// Load gives what is stored, and its version; an empty pair if there is none.
	Load(ctx context.Context) (pair Pair, version string, err error)
	// Save replaces what is stored at that version; ErrConflict if it is another.
	Save(ctx context.Context, pair Pair, version string) error
}

// Times of an Authority.
const (
	// lookEvery is how soon what another replica has renewed is served here too.
	lookEvery   = time.Minute
	lookAgain   = 2 * time.Second
	callTimeout = 10 * time.Second
	// conflicts bounds the tries of Start against other replicas'.
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

// served is a pair in the form in which it is used.
type served struct {
	pair Pair
	tls  *tls.Certificate
}

// NewAuthority makes an Authority whose server certificate has these names, DNS
// names and IP addresses.
func NewAuthority(store Store, names []string, clock clock.WithTicker, log *zap.Logger) *Authority {
	return &Authority{store: store, names: names, clock: clock, log: log}
}

// Start reads the pair, or makes it: then calls can be served.
func (a *Authority) Start(ctx context.Context) (err error) {
	for range conflicts {
		if err = a.look(ctx); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return err
}

// Run renews what is due, and takes up what another replica has renewed, until ctx
// ends.
func (a *Authority) Run(ctx context.Context) error {
	failing := false
	for {
		err := a.look(ctx)
		if failed := err != nil && !errors.Is(err, ErrConflict); failed != failing && ctx.Err() == nil {
			failing = failed
			a.log.Warn("looking after the certificates", zap.Bool("failing", failing), zap.Error(err))
		}
		wait := lookEvery
		if err != nil {
			wait = lookAgain
		}
		if !pause.For(ctx, a.clock, wait, nil) {
			return nil
		}
	}
}

// look reads what is stored and renews it where that is due.
func (a *Authority) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pair, version, err := a.store.Load(ctx)
	if err != nil {
		return err
	}
	next, changed, err := renewed(a.clock.Now(), pair, a.names)
	if err != nil {
		return fmt.Errorf("the stored certificates cannot be used, mend or delete them: %w", err)
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
		return fmt.Errorf("the stored certificates cannot be used, mend or delete them: %s: %w", ChainKey, err)
	}
	a.served.Store(&served{pair: next, tls: &certificate})
	a.log.Info("serving a certificate", zap.Time("notAfter", certificate.Leaf.NotAfter), zap.Strings("names", a.names), zap.Bool("made", changed))
	return nil
}

// Certificate is the one to serve a new connection with.
func (a *Authority) Certificate(context.Context) (*tls.Certificate, error) {
	now := a.served.Load()
	if now == nil {
		return nil, errors.New("no certificate yet")
	}
	return now.tls, nil
}

// Bundle are the authorities to trust, in PEM; nil before Start.
func (a *Authority) Bundle(context.Context) ([]byte, error) {
	if now := a.served.Load(); now != nil {
		return now.pair.Bundle, nil
	}
	return nil, nil
}
