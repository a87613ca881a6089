package sidecar

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// deregister deletes the runner. It tries several times within a bound that SIGTERM
// does not shorten, and returns whether the control plane has accepted.
func (s *Sidecar) deregister(ctx context.Context, now snapshot) bool {
	uuid := now.uuid
	request := &runnerv1.DeregisterRequest{RunnerUuid: uuid}
	if now.exit != nil {
		request.ExitCode, request.LastLine = proto.Int32(int32(now.exit.code)), now.exit.lastLine //nolint:gosec // an exit code has 8 bits
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.remaining(ctx))
	defer cancel()
	wait := socket.Backoff{Base: s.pace.attachBase, Maximum: s.pace.attachMax}
	for {
		var gone bool
		err := s.registrar.call(func(client runnerv1.RunnerServiceClient) error {
			call, cancel := context.WithTimeout(ctx, s.pace.deregisterCall)
			defer cancel()
			response, err := client.Deregister(call, request)
			gone = response.GetGone()
			return err
		})
		if err == nil {
			s.log.Info("deregistered", zap.String("runner", uuid), zap.Bool("gone", gone))
			return true
		}
		if !wait.Sleep(ctx) {
			s.log.Warn("not deregistered, the control plane's reaper has to delete the runner", zap.String("runner", uuid), zap.Error(err))
			return false
		}
	}
}

// remaining is the time for a deregistration: until ctx's deadline, if it has one,
// but at most the bound.
func (s *Sidecar) remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(time.Until(deadline), s.pace.deregister)
	}
	return s.pace.deregister
}
