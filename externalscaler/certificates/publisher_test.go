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
