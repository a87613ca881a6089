package socket

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff doubles its pauses from Base up to Maximum. It jitters each pause over
// its upper half, because thousands of sidecars lose the same control plane at
// the same moment.
type Backoff struct {
	Base, Maximum time.Duration
	tries         int
}

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	pause := b.Base
	for range b.tries {
		pause = min(2*pause, b.Maximum)
	}
	b.tries++
	return Jitter(pause/2, pause/2)
}

// Reset makes the next pause start at Base again.
func (b *Backoff) Reset() { b.tries = 0 }

// Sleep sleeps for the next pause, see the function Sleep.
func (b *Backoff) Sleep(ctx context.Context) bool { return Sleep(ctx, b.Next()) }

// Jitter returns at least floor and less than floor plus spread.
func Jitter(floor, spread time.Duration) time.Duration {
	if spread <= 0 {
		return floor
	}
	return floor + rand.N(spread) //nolint:gosec // spreads load, protects nothing
}

// Sleep waits for the duration. It returns false if ctx ends first.
func Sleep(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
