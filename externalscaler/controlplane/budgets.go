package controlplane

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/pause"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// UsageStore keeps across restarts how many calls were made in the last hour.
type UsageStore interface {
	// LoadUsage returns the use by credentials set.
	LoadUsage(ctx context.Context) (map[string]bitbucket.Usage, error)
	// SaveUsage replaces all that was kept.
	SaveUsage(ctx context.Context, usage map[string]bitbucket.Usage) error
}

// Times of keeping the use. A crash loses at most what was used within one interval.
const (
	usageInterval = time.Minute
	usageTimeout  = 5 * time.Second
	usageRetry    = 5 * time.Second
)

// budgets holds the budget of each credentials set. A rotated secret belongs to the same
// OAuth consumer or user, so its set keeps the budget.
type budgets struct {
	hourly int
	store  UsageStore // nil if nothing is kept
	log    *zap.Logger

	mu  sync.Mutex
	all map[string]*bitbucket.Budget
	// kept is the use of sets that are not known yet.
	kept map[string]bitbucket.Usage
}

func newBudgets(hourly int, store UsageStore, log *zap.Logger) *budgets {
	return &budgets{hourly: hourly, store: store, log: log, all: map[string]*bitbucket.Budget{}, kept: map[string]bitbucket.Usage{}}
}

// of returns the budget of a credentials set.
func (b *budgets) of(set string) *bitbucket.Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	budget, ok := b.all[set]
	if !ok {
		budget = bitbucket.NewBudget(b.hourly, bitbucket.DefaultReserve, clock.RealClock{})
		budget.Restore(b.kept[set])
		delete(b.kept, set)
		b.all[set] = budget
	}
	return budget
}

// pacer is a scope.Config.Pacer.
func (b *budgets) pacer(set string) scope.Pacer { return b.of(set) }

// keep restores the use that the last leader kept, and keeps the use from then on, until
// ctx ends, as long as this process leads. What was used before it is restored counts as
// well.
func (b *budgets) keep(ctx context.Context, leads func() bool) {
	if b.store == nil {
		return
	}
	for failed := false; ; failed = true {
		usage, err := b.load(ctx)
		if err == nil {
			b.restore(usage)
			break
		}
		if !failed {
			b.log.Warn("reading the calls that were made in the last hour failed, trying again", zap.Error(err))
		}
		if !pause.For(ctx, clock.RealClock{}, usageRetry, nil) {
			return
		}
	}
	for pause.For(ctx, clock.RealClock{}, usageInterval, nil) {
		b.save(ctx)
	}
	if leads() { // or another one has begun to keep its own
		b.save(context.WithoutCancel(ctx))
	}
}

func (b *budgets) load(ctx context.Context) (map[string]bitbucket.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	return b.store.LoadUsage(ctx)
}

func (b *budgets) restore(usage map[string]bitbucket.Usage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for set, kept := range usage {
		if budget, ok := b.all[set]; ok {
			budget.Restore(kept)
		} else {
			b.kept[set] = kept
		}
	}
}

func (b *budgets) save(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	b.mu.Lock()
	usage := maps.Clone(b.kept)
	for set, budget := range b.all {
		if used := budget.Usage(); len(used) > 0 {
			usage[set] = used
		}
	}
	b.mu.Unlock()
	if err := b.store.SaveUsage(ctx, usage); err != nil {
		b.log.Warn("keeping the calls that were made in the last hour failed", zap.Error(err))
	}
}
