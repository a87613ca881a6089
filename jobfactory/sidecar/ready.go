package sidecar

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// Ready is the startup probe. It asks the sidecar that serves dir whether the
// runner is registered or the Job has to finish without one; nil means yes. It waits for
// that as long as given: the kubelet writes a Warning Event for each probe that fails,
// and a pod that starts normally needs some seconds.
func Ready(ctx context.Context, dir string, wait time.Duration) error {
	if err := socket.ValidateDir(dir); err != nil {
		return err
	}
	if wait < 0 {
		return fmt.Errorf("wait: %v, want a positive duration or 0", wait)
	}
	ctx, cancel := context.WithTimeout(ctx, max(wait, socket.Timeout))
	defer cancel()
	began := time.Now()
	again := socket.Backoff{Base: 50 * time.Millisecond, Maximum: time.Second}
	for {
		err := ask(ctx, dir, wait > 0)
		if err == nil || time.Since(began) >= wait || !again.Sleep(ctx) {
			return err
		}
	}
}

var errNotReady = errors.New("the runner is not registered yet")

// ask asks once. If wait is set, the sidecar answers when it is ready.
func ask(ctx context.Context, dir string, wait bool) error {
	conn, err := socket.Dial(ctx, dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := conn.Ask(ctx, socket.Message{Type: socket.TypeReady, Wait: wait})
	switch {
	case ctx.Err() != nil && wait:
		return errNotReady
	case err != nil:
		return err
	case !answer.Ready:
		return errNotReady
	}
	return nil
}
