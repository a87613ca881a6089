package leader

import (
	"context"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/pause"
)

// LeaderService makes the Service lead its callers to the leader.
type LeaderService interface { //nolint:revive // leader.Service would be any service
	// PointHere leads callers to this process and nowhere else; it may be repeated.
	PointHere(ctx context.Context) error
	// Withdraw stops leading callers to this process.
	Withdraw(ctx context.Context) error
}

// Times of keeping the Service pointed.
const (
	// pointEvery is how soon a Service that somebody changed is mended.
	pointEvery = 5 * time.Second
	// pointAgain is the time to the next try after a failure.
	pointAgain   = 250 * time.Millisecond
	pointTimeout = 2 * time.Second
)

// KeepPointed points the Service at this process until ctx ends, for as long as l
// holds, and then withdraws it once: the next leader does so again.
func KeepPointed(ctx context.Context, service LeaderService, l Leadership, clk clock.Clock, log *zap.Logger) {
	failing := false
	for {
		again := pointEvery
		// A process that was stopped for a while must not lead callers away from its
		// successor.
		if Holds(l, clk.Now()) {
			trying, cancel := context.WithTimeout(ctx, pointTimeout)
			err := service.PointHere(trying)
			cancel()
			if err != nil {
				again = pointAgain
			}
			if failed := err != nil; failed != failing && ctx.Err() == nil {
				failing = failed
				log.Warn("pointing the Service at this pod", zap.Bool("failing", failing), zap.Error(err))
			}
		}
		if !pause.For(ctx, clk, again, nil) {
			break
		}
	}
	withdrawing, cancel := context.WithTimeout(context.WithoutCancel(ctx), pointTimeout)
	defer cancel()
	if err := service.Withdraw(withdrawing); err != nil {
		log.Warn("the Service still points at this pod", zap.Error(err))
	}
}
