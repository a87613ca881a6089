// Package pause waits on a clock. It is the one place in the server where a
// goroutine sleeps, so that every wait ends with its context and runs on a clock
// that a test can set.
package pause

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// For waits until d has passed on clk, wake delivers or is closed, or ctx ends. A
// nil wake never ends the wait. It reports whether ctx is still alive.
func For(ctx context.Context, clk clock.Clock, d time.Duration, wake <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := clk.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
	case <-wake:
	}
	return true
}
