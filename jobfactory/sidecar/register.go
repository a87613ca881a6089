package sidecar

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// maxRetryDelay bounds the delay that the control plane may ask for.
const maxRetryDelay = 5 * time.Minute

// register tries until the control plane has decided or ctx ends. It never gives
// up by itself: the kubelet would only restart the sidecar, and the control plane
// ends a Job that never gets its runner. It returns whether a runner may have been
// registered although no answer came.
func (s *Sidecar) register(ctx context.Context) (uncertain bool) {
	began := time.Now()
	wait := socket.Backoff{Base: s.pace.retryBase, Maximum: s.pace.retryMax}
	var heard news
	for ctx.Err() == nil {
		response, err := s.tryRegister(ctx)
		if err == nil {
			err = s.take(response)
		}
		if err == nil {
			return false
		}
		code := status.Code(err)
		uncertain = uncertain || ambiguous(code)
		delay := s.retryDelay(err, &wait, time.Since(began))
		if heard.is(err.Error(), time.Now()) {
			s.log.Warn("not registered yet", zap.Stringer("code", code), zap.Error(err), zap.Duration("retryIn", delay))
		}
		if !socket.Sleep(ctx, delay) {
			break
		}
	}
	return uncertain
}

// tryRegister makes one call. A call under way gets a little more time after
// SIGTERM, because only the reaper would find a runner whose answer is lost.
func (s *Sidecar) tryRegister(ctx context.Context) (*runnerv1.RegisterResponse, error) {
	extended, cancel := extend(ctx, s.pace.inFlight)
	defer cancel()
	call, cancel := context.WithTimeout(extended, s.pace.call)
	defer cancel()
	var response *runnerv1.RegisterResponse
	err := s.registrar.call(func(client runnerv1.RunnerServiceClient) (err error) {
		response, err = client.Register(call, &runnerv1.RegisterRequest{SidecarVersion: s.config.Version})
		return err
	})
	return response, err
}

// take puts the control plane's decision into the state.
func (s *Sidecar) take(response *runnerv1.RegisterResponse) error {
	switch outcome := response.GetOutcome().(type) {
	case *runnerv1.RegisterResponse_Runner:
		s.log.Info("registered", zap.String("runner", outcome.Runner.GetUuid()), zap.String("name", outcome.Runner.GetName()))
		s.state.register(outcome.Runner)
		return nil
	case *runnerv1.RegisterResponse_Finish:
		s.log.Info("the Job has to finish without a runner", zap.String("reason", outcome.Finish.GetReason()))
		s.state.finish(outcome.Finish.GetReason())
		return nil
	default:
		return fmt.Errorf("register: the control plane answers with an outcome that this sidecar does not know: %T", outcome)
	}
}

// ambiguous reports whether a call that failed with this code may have been applied.
func ambiguous(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.Aborted:
		return true
	default:
		return false
	}
}

// retryDelay returns the delay before the next try after err, which depends on the
// code (runner.proto explains the codes) and on the time since the first try.
func (s *Sidecar) retryDelay(err error, wait *socket.Backoff, since time.Duration) time.Duration {
	answer := status.Convert(err)
	switch answer.Code() {
	case codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented:
		// Somebody has to correct the cause.
		return socket.Jitter(s.pace.slow, s.pace.slow/10)
	case codes.Unauthenticated, codes.NotFound:
		// The token or the control plane's watch may only be late.
		if since > s.pace.lag {
			return socket.Jitter(s.pace.slow, s.pace.slow/10)
		}
	}
	for _, detail := range answer.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait.Reset()
			asked := min(max(info.GetRetryDelay().AsDuration(), s.pace.retryBase), maxRetryDelay)
			return socket.Jitter(asked, asked/10)
		}
	}
	return wait.Next()
}
