package controlplane

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
)

// memory is a UsageStore.
type memory struct{ kept map[string]bitbucket.Usage }

func (m *memory) LoadUsage(context.Context) (map[string]bitbucket.Usage, error) { return m.kept, nil }

func (m *memory) SaveUsage(_ context.Context, usage map[string]bitbucket.Usage) error {
	m.kept = usage
	return nil
}

func TestTheUseOfASetThatIsNotUsedYetIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{kept: map[string]bitbucket.Usage{"b": {{time.Now().Unix() / 60, 0, 900, 0, 0, 0}}}}
		for range 2 { // leaders
			b := newBudgets(1000, store, zap.NewNop())
			b.of("a")
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			b.keep(ctx, func() bool { return true })
			cancel()
		}
		if got := newBudgetsOf(t, store).of("b").Used(); got != 900 {
			t.Errorf("%d calls are known, want 900", got)
		}
	})
}

// newBudgetsOf returns budgets with what is kept.
func newBudgetsOf(t *testing.T, store UsageStore) *budgets {
	t.Helper()
	b := newBudgets(1000, store, zap.NewNop())
	usage, err := b.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.restore(usage)
	return b
}

func TestAProcessThatNoLongerLeadsKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		b := newBudgets(1000, store, zap.NewNop())
		b.of("a").Restore(bitbucket.Usage{{time.Now().Unix() / 60, 5, 0, 0, 0, 0}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.keep(ctx, func() bool { return false })
		if store.kept != nil {
			t.Errorf("it kept %v over what the next leader keeps", store.kept)
		}
	})
}
