package sidecar

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// maxRetryDelay bounds the delay that the control plane may ask for.
const maxRetryDelay = 5 * time.Minute

// register tries until the control plane has decided or ctx ends. It never gives
// up by itself: a sidecar that exits is only started again, and a Job that never
// gets its runner is ended by the control plane. It reports whether a runner may
// have been registered although the answer is missing.
func (s *Sidecar) register(ctx context.Context) (uncertain bool) {
	began := time.Now()
	wait := backoff{base: s.pace.retryBase, maximum: s.pace.retryMax}
	said := ""
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
		if said != err.Error() {
			said = err.Error()
			s.log.Warn("not registered yet", zap.Stringer("code", code), zap.Error(err), zap.Duration("retryIn", delay))
		}
		if !pause(ctx, delay) {
			break
		}
	}
	return uncertain
}

// tryRegister makes one call. SIGTERM leaves one under way a little more time:
// an answer lost is a runner that only the reaper finds.
func (s *Sidecar) tryRegister(ctx context.Context) (*runnerv1.RegisterResponse, error) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.pace.call)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(s.pace.inFlight, cancel)
		context.AfterFunc(call, func() { timer.Stop() })
	})()
	var response *runnerv1.RegisterResponse
	err := s.link.use(func(client runnerv1.RunnerServiceClient) (err error) {
		response, err = client.Register(call, &runnerv1.RegisterRequest{SidecarVersion: s.config.Version})
		return err
	})
	return response, err
}

// take enters the control plane's decision into the ledger.
func (s *Sidecar) take(response *runnerv1.RegisterResponse) error {
	switch outcome := response.GetOutcome().(type) {
	case *runnerv1.RegisterResponse_Runner:
		s.log.Info("registered", zap.String("runner", outcome.Runner.GetUuid()), zap.String("name", outcome.Runner.GetName()))
		s.ledger.register(outcome.Runner)
		return nil
	case *runnerv1.RegisterResponse_Finish:
		s.log.Info("no runner is wanted of this Job", zap.String("reason", outcome.Finish.GetReason()))
		s.ledger.finish(outcome.Finish.GetReason())
		return nil
	default:
		return fmt.Errorf("the control plane answered with an outcome that this sidecar does not know: %T", outcome)
	}
}

// ambiguous says whether a call that failed with this code may have had effect.
func ambiguous(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.Aborted:
		return true
	default:
		return false
	}
}

// retryDelay says when to ask again after err, by its code and by how long it
// has gone on (the codes' meanings: runner.proto).
func (s *Sidecar) retryDelay(err error, wait *backoff, since time.Duration) time.Duration {
	answer := status.Convert(err)
	switch answer.Code() {
	case codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented:
		// A person has to mend it.
		return jitter(s.pace.slow, s.pace.slow/10)
	case codes.Unauthenticated, codes.NotFound:
		// The token, or the control plane's watch, may just be late.
		if since > s.pace.lag {
			return jitter(s.pace.slow, s.pace.slow/10)
		}
	}
	for _, detail := range answer.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait.reset()
			asked := min(max(info.GetRetryDelay().AsDuration(), s.pace.retryBase), maxRetryDelay)
			return jitter(asked, asked/10)
		}
	}
	return wait.next()
}
