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

// Maps keeps the bundle in a ConfigMap of each namespace, under BundleKey.
type Maps interface {
	// Publish writes it; it never replaces one that is somebody else's.
	Publish(ctx context.Context, namespace string, bundle []byte) error
	// Withdraw deletes it; one that is gone, or somebody else's, stays as it is.
	Withdraw(ctx context.Context, namespace string) error
	// Published are the namespaces that have one.
	Published(ctx context.Context) ([]string, error)
}

// Times of a Publisher.
const (
	publishEvery = 2 * time.Second
	// checkEvery is how soon a ConfigMap that somebody changed or deleted is mended.
	checkEvery = time.Minute
)

// Publisher keeps the bundle where KEDA and the sidecars read it: in every namespace
// that has a runner group. One replica at a time runs it.
type Publisher struct {
	source     Source
	maps       Maps
	namespaces func() []string
	clock      clock.WithTicker
	log        *zap.Logger

	published map[string][]byte
	said      map[string]string
	checked   time.Time
}

// NewPublisher makes a Publisher; namespaces are those that need the bundle as of now.
func NewPublisher(source Source, maps Maps, namespaces func() []string, clock clock.WithTicker, log *zap.Logger) *Publisher {
	return &Publisher{source: source, maps: maps, namespaces: namespaces, clock: clock, log: log, said: map[string]string{}}
}

// Run publishes until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	ticker := p.clock.NewTicker(publishEvery)
	defer ticker.Stop()
	for {
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.say("", err)
		} else {
			delete(p.said, "")
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
	if now := p.clock.Now(); p.published == nil || now.Sub(p.checked) >= checkEvery {
		names, err := p.maps.Published(ctx)
		if err != nil {
			return err
		}
		p.published, p.checked = map[string][]byte{}, now
		for _, name := range names {
			p.published[name] = nil // to be looked at
		}
	}
	wanted := p.namespaces()
	for _, namespace := range wanted {
		if bytes.Equal(p.published[namespace], bundle) {
			continue
		}
		if err := p.maps.Publish(ctx, namespace, bundle); err != nil {
			p.say(namespace, err)
			continue
		}
		delete(p.said, namespace)
		p.published[namespace] = bundle
	}
	var errs []error
	for namespace := range p.published {
		if slices.Contains(wanted, namespace) {
			continue
		}
		if err := p.maps.Withdraw(ctx, namespace); err != nil {
			errs = append(errs, fmt.Errorf("withdraw the authority from %s: %w", namespace, err))
			continue
		}
		delete(p.published, namespace)
	}
	return errors.Join(errs...)
}

// say logs a failure once, until it is another.
func (p *Publisher) say(namespace string, err error) {
	if p.said[namespace] != err.Error() {
		p.said[namespace] = err.Error()
		p.log.Warn("the authority is not published", zap.String("namespace", namespace), zap.Error(err))
	}
}
