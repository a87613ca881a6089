package wrapper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// sidecarLost is how long Drain tries to reach a sidecar. The kubelet restarts a
// sidecar after a pause of up to 5 minutes, and meanwhile the runner may have a
// step.
const sidecarLost = 6 * time.Minute

// ErrNotDrained means that the runner has not ended in time.
var ErrNotDrained = errors.New("the runner has not ended")

// Drain is the preStop hook of the runner container. It notifies the sidecar that
// serves dir that the pod is being deleted, and returns once the runner has ended
// or can no longer start. Until then the kubelet sends no signals. The error is
// ErrNotDrained if ctx ends first, or if no sidecar can be reached for 6 minutes.
func Drain(ctx context.Context, dir string, log *zap.Logger) error {
	if err := socket.ValidateDir(dir); err != nil {
		return err
	}
	wait := socket.Backoff{Base: 100 * time.Millisecond, Maximum: 2 * time.Second}
	lost := time.Now()
	for {
		reached, err := requestDrain(ctx, dir)
		if err == nil {
			return nil
		}
		if reached {
			lost = time.Now()
			wait.Reset()
		}
		log.Debug("not drained yet", zap.Error(err))
		if time.Since(lost) > sidecarLost || !wait.Sleep(ctx) {
			return fmt.Errorf("%w: %w", ErrNotDrained, err)
		}
	}
}

// requestDrain asks over one connection and waits for the answer. It returns
// whether it has reached a sidecar.
func requestDrain(ctx context.Context, dir string) (reached bool, err error) {
	conn, err := socket.Dial(ctx, dir)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	answer, err := conn.Ask(ctx, socket.Message{Type: socket.TypeDrain})
	if err != nil {
		return true, err
	}
	if answer.Type != socket.TypeDrained {
		return true, fmt.Errorf("the sidecar answers %q: %s", answer.Type, answer.Reason)
	}
	return true, nil
}
