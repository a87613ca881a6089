package sidecar

import (
	"context"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// stopUnanswered stops the runner of a deleted pod without an order, if the control
// plane does not answer: it cannot be reached, or its build does not know draining.
// A runner that nobody disables may get another step at any time, so the runner
// must have been idle for long. A runner that is not known to be idle is busy.
func (s *Sidecar) stopUnanswered(ctx context.Context) {
	var since time.Time // the first check that found no answer
	for socket.Sleep(ctx, min(time.Second, s.pace.unanswered/10)) {
		now := s.state.get()
		if now.ended || now.phase == finished {
			return
		}
		if !now.terminating || now.acknowledged {
			since = time.Time{}
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		// Only idleness without an answer counts. Before that the control plane might
		// have been about to answer.
		last, idle := s.state.reports.Age()
		idle = min(idle, time.Since(since))
		if last.State == runnerv1.RunnerState_RUNNER_STATE_IDLE && idle >= s.pace.unanswered {
			s.log.Warn("the control plane does not answer, stopping the idle runner of the deleted pod", zap.Duration("idle", idle))
			s.state.stop("the pod is being deleted, and the control plane does not answer")
			return
		}
	}
}
