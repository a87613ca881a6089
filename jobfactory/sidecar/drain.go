package sidecar

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// drainLost is how long Drain looks for a sidecar that cannot be reached: the
// kubelet starts one again after a pause of up to 5 minutes, and the runner may
// have a step.
const drainLost = 6 * time.Minute

// ErrNotDrained says that the runner has not ended in time.
var ErrNotDrained = errors.New("the runner has not ended")

// Drain is the preStop hook of the runner container: it tells the sidecar that
// serves dir that the pod is being deleted, and returns once the runner has ended,
// or none was ever started. Until then the kubelet signals nobody. The error is
// ErrNotDrained where ctx ended first, or no sidecar was found for 6 minutes.
func Drain(ctx context.Context, dir string, log *zap.Logger) error {
	if err := validateDir(dir); err != nil {
		return err
	}
	wait := backoff{base: 100 * time.Millisecond, maximum: 2 * time.Second}
	lost := time.Now()
	for {
		reached, err := drainOnce(ctx, dir)
		if err == nil {
			return nil
		}
		if reached {
			lost = time.Now()
			wait.reset()
		}
		log.Debug("not drained yet", zap.Error(err))
		if time.Since(lost) > drainLost || !pause(ctx, wait.next()) {
			return fmt.Errorf("%w: %w", ErrNotDrained, err)
		}
	}
}

// drainOnce asks over one connection, and waits for the answer as long as it stands.
func drainOnce(ctx context.Context, dir string) (reached bool, err error) {
	w, err := dialWire(ctx, dir)
	if err != nil {
		return false, err
	}
	defer w.close()
	defer context.AfterFunc(ctx, w.close)()
	if err := w.send(message{Type: typeDrain}); err != nil {
		return true, err
	}
	answer, err := w.receive()
	if err != nil {
		return true, err
	}
	if answer.Type != typeDrained {
		return true, fmt.Errorf("the sidecar answers %q: %s", answer.Type, answer.Reason)
	}
	return true, nil
}

// drain answers the preStop hook once no runner runs any more, nor will.
func (d *desk) drain(ctx context.Context, w *wire) {
	d.log.Info("the pod is deleted, its runner ends once it is idle")
	d.ledger.terminate()
	for {
		now, changed := d.ledger.look()
		if now.ended || now.phase == registering || now.phase == finished {
			_ = w.send(message{Type: typeDrained}) // who went away asks again
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// endUnanswered ends the runner of a deleted pod without the control plane's word
// where none came: it cannot be reached, or is of a build that knows no draining.
// An idle runner that nobody disables may still be given a step, so this waits for
// long; what is not known to be idle is busy.
func (s *Sidecar) endUnanswered(ctx context.Context) {
	var asked time.Time // of the first look since which nobody has answered
	for pause(ctx, min(time.Second, s.pace.unanswered/10)) {
		now, _ := s.ledger.look()
		if now.ended || now.phase == finished {
			return
		}
		if !now.terminating || now.acknowledged {
			asked = time.Time{}
			continue
		}
		if asked.IsZero() {
			asked = time.Now()
		}
		// Idleness from before nobody answered counts for nothing: the runner could
		// be given a step all the while, and the control plane may be about to answer.
		last, lasted := s.ledger.reports.lasting()
		lasted = min(lasted, time.Since(asked))
		if last.state == runnerv1.RunnerState_RUNNER_STATE_IDLE && lasted >= s.pace.unanswered {
			s.log.Warn("the control plane does not answer, the idle runner of the deleted pod is ended", zap.Duration("idle", lasted))
			s.ledger.stop("the pod is deleted, and the control plane does not answer")
			return
		}
	}
}
