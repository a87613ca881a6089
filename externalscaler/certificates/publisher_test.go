package certificates

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	clocktesting "k8s.io/utils/clock/testing"
)

// memoryMaps implements Maps in memory.
type memoryMaps struct {
	mu      sync.Mutex
	bundles map[string]string
	// foreign are the namespaces whose ConfigMap belongs to someone else.
	foreign map[string]bool
}

func (b *memoryMaps) Publish(_ context.Context, namespace string, bundle []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.foreign[namespace] {
		return errors.New("not ours")
	}
	b.bundles[namespace] = string(bundle)
	return nil
}

func (b *memoryMaps) Withdraw(_ context.Context, namespace string, _ []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.bundles, namespace)
	return nil
}

func (b *memoryMaps) Published(context.Context, []byte) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.bundles)), nil
}

func TestAuthorityIsPublishedOnlyWhereItIsNeeded(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	authority := NewAuthority(&memoryStore{}, names, clock, zaptest.NewLogger(t))
	if err := authority.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	published := &memoryMaps{bundles: map[string]string{"left": "old"}, foreign: map[string]bool{"foreign": true}}
	wanted := []string{"system", "team", "foreign"}
	p := NewPublisher(authority, published, func() []string { return wanted }, clock, zaptest.NewLogger(t))
	publish := func(want ...string) {
		t.Helper()
		if err := p.publish(t.Context()); err != nil {
			t.Error(err)
		}
		got, err := published.Published(t.Context(), nil)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("published in %v, %v, want %v", got, err, want)
		}
		for namespace, bundle := range published.bundles {
			if bundle != string(bundleOf(t, authority)) {
				t.Errorf("%s has another bundle", namespace)
			}
		}
	}
	publish("system", "team")
	wanted = []string{"system", "other"}
	publish("other", "system")
	published.bundles = map[string]string{"system": "corrupted"} // by someone else
	clock.Step(repairInterval)
	publish("other", "system")
	clock.Step(8 * 365 * 24 * time.Hour)
	if err := authority.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish("other", "system")
}
