package sidecar

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff doubles its pauses from base up to maximum. The pauses are jittered
// over their upper half: thousands of sidecars lose the same control plane at
// the same moment.
type backoff struct {
	base, maximum time.Duration
	tries         int
}

func (b *backoff) next() time.Duration {
	pause := b.base
	for range b.tries {
		pause = min(2*pause, b.maximum)
	}
	b.tries++
	return jitter(pause/2, pause/2)
}

func (b *backoff) reset() { b.tries = 0 }

// jitter returns at least floor and less than floor plus spread.
func jitter(floor, spread time.Duration) time.Duration {
	if spread <= 0 {
		return floor
	}
	return floor + rand.N(spread) //nolint:gosec // spreads load, guards nothing
}

// pause waits, and reports false where the context ended first.
func pause(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
