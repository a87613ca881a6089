package sidecar

import (
	"context"
	"errors"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// Ready is the startup probe. It asks the sidecar that serves dir whether the
// runner is registered or the Job has to finish without one; nil means yes.
func Ready(ctx context.Context, dir string) error {
	if err := socket.ValidateDir(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, socket.Timeout)
	defer cancel()
	conn, err := socket.Dial(ctx, dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := conn.Ask(ctx, socket.TypeReady)
	if err != nil {
		return err
	}
	if !answer.Ready {
		return errors.New("the runner is not registered yet")
	}
	return nil
}
