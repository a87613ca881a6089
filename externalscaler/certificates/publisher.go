package certificates

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"
)

// Maps stores the bundle in one ConfigMap per namespace, under BundleKey.
type Maps interface {
	// Publish writes the ConfigMap. It never replaces one that someone else made.
	Publish(ctx context.Context, namespace string, bundle []byte) error
	// Withdraw removes the bundle from a ConfigMap, and deletes one that is then empty. It
	// does nothing if there is none or if someone else made it.
	Withdraw(ctx context.Context, namespace string, bundle []byte) error
	// Published returns the namespaces from which something has to be withdrawn if they do
	// not need the bundle.
	Published(ctx context.Context, bundle []byte) ([]string, error)
}

// Times of a Publisher.
const (
	publishInterval = 2 * time.Second
	// repairInterval bounds how long a ConfigMap that someone changed or deleted stays
	// that way.
	repairInterval = time.Minute
)

// Publisher publishes the bundle in every namespace that has a runner group, where KEDA
// and the sidecars read it. Only the leader runs it.
type Publisher struct {
	source     Source
	maps       Maps
	namespaces func() []string
	clock      clock.WithTicker
	log        *zap.Logger

	published map[string][]byte
	logged    map[string]string // the last error, by namespace
	checked   time.Time
}

// NewPublisher returns a Publisher. namespaces returns those that need the bundle now.
func NewPublisher(source Source, maps Maps, namespaces func() []string, clock clock.WithTicker, log *zap.Logger) *Publisher {
	return &Publisher{source: source, maps: maps, namespaces: namespaces, clock: clock, log: log, logged: map[string]string{}}
}

// Run publishes until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	ticker := p.clock.NewTicker(publishInterval)
	defer ticker.Stop()
	for {
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.logOnce("", err)
		} else {
			delete(p.logged, "")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (p *Publisher) publish(ctx context.Context) error {
	bundle, err := p.source.Bundle(ctx)
	if err != nil || bundle == nil {
		return err
	}
	if now := p.clock.Now(); p.published == nil || now.Sub(p.checked) >= repairInterval {
		names, err := p.maps.Published(ctx, bundle)
		if err != nil {
			return err
		}
		p.published, p.checked = map[string][]byte{}, now
		for _, name := range names {
			p.published[name] = nil // to be checked
		}
	}
	wanted := p.namespaces()
	for _, namespace := range wanted {
		if bytes.Equal(p.published[namespace], bundle) {
			continue
		}
		if err := p.maps.Publish(ctx, namespace, bundle); err != nil {
			p.logOnce(namespace, err)
			continue
		}
		delete(p.logged, namespace)
		p.published[namespace] = bundle
	}
	var errs []error
	for namespace := range p.published {
		if slices.Contains(wanted, namespace) {
			continue
		}
		if err := p.maps.Withdraw(ctx, namespace, bundle); err != nil {
			errs = append(errs, fmt.Errorf("withdraw the authority from %s: %w", namespace, err))
			continue
		}
		delete(p.published, namespace)
	}
	return errors.Join(errs...)
}

// logOnce logs a failure unless it is the same as the last one of its namespace.
func (p *Publisher) logOnce(namespace string, err error) {
	if p.logged[namespace] != err.Error() {
		p.logged[namespace] = err.Error()
		p.log.Warn("the authority is not published", zap.String("namespace", namespace), zap.Error(err))
	}
}
