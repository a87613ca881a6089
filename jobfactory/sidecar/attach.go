package sidecar

import (
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// attach keeps a stream to the control plane open until ctx ends: reports go up,
// orders come down.
func (s *Sidecar) attach(ctx context.Context) {
	wait := socket.Backoff{Base: s.pace.attachBase, Maximum: s.pace.attachMax}
	var heard news
	for {
		began := time.Now()
		err := s.registrar.call(func(client runnerv1.RunnerServiceClient) error { return s.stream(ctx, client) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > s.pace.settled {
			wait.Reset()
		}
		if heard.is(err.Error(), began) {
			s.log.Info("detached from the control plane, attaching again", zap.Stringer("code", status.Code(err)), zap.Error(err))
		}
		if !wait.Sleep(ctx) {
			return
		}
	}
}

// stream opens one stream and serves it until it ends. It always returns an error,
// unless ctx ended.
func (s *Sidecar) stream(ctx context.Context, client runnerv1.RunnerServiceClient) error {
	// The last reports are sent after ctx has ended.
	call, cancel := extend(ctx, s.pace.linger)
	defer cancel()
	s.state.acknowledge(false) // another control plane may answer now
	stream, err := client.Attach(call)
	if err != nil {
		return err
	}
	broken := make(chan error, 1)
	go func() { broken <- s.receiveOrders(stream) }()
	// If Send fails, Recv returns the cause.
	if !s.sendReports(stream, s.state.reports.Restart()) {
		return <-broken
	}
	for {
		select {
		case <-s.state.reports.Changed:
			if !s.sendReports(stream, s.state.reports.Take()...) {
				return <-broken
			}
		case err := <-broken:
			return err
		case <-ctx.Done():
			if s.sendReports(stream, s.state.reports.Take()...) {
				_ = stream.CloseSend() // never fails
			}
			return <-broken
		}
	}
}

// sendReports returns false if the stream has ended.
func (s *Sidecar) sendReports(stream runnerv1.RunnerService_AttachClient, reports ...socket.Report) bool {
	now := s.state.get()
	for _, r := range reports {
		request := &runnerv1.AttachRequest{RunnerUuid: now.uuid, State: r.State, StepUuid: r.Step.UUID, Place: now.place, Terminating: now.terminating,
			UnrecognizedOutput: r.Unrecognized, StepsBegun: r.Begun, Step: wireStep(r.Step)}
		if r.Ended != (socket.EndedStep{}) {
			request.EndedStep = &runnerv1.EndedStep{Step: wireStep(r.Ended.Step), Result: r.Ended.Result}
		}
		if err := stream.Send(request); err != nil {
			return false
		}
		s.log.Debug("sent the runner's state", zap.Stringer("state", r.State), zap.String("step", r.Step.UUID))
	}
	return true
}

func wireStep(s socket.Step) *runnerv1.Step {
	if s == (socket.Step{}) {
		return nil
	}
	return &runnerv1.Step{RepositoryUuid: s.Repository, PipelineUuid: s.Pipeline, StepUuid: s.UUID}
}

// receiveOrders carries orders out until the stream ends, and returns why it ended.
func (s *Sidecar) receiveOrders(stream runnerv1.RunnerService_AttachClient) error {
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the control plane ended the stream")
		}
		if err != nil {
			return err
		}
		switch order := response.GetOrder().(type) {
		case *runnerv1.AttachResponse_Stop:
			s.log.Info("ordered to stop the runner", zap.String("reason", order.Stop.GetReason()))
			s.state.stop(order.Stop.GetReason())
		case *runnerv1.AttachResponse_Drain:
			s.log.Info("the control plane drains the runner", zap.String("reason", order.Drain.GetReason()))
			s.state.acknowledge(true)
		}
	}
}

// extend returns a context that ends the given time after its parent, so that a
// call under way gets a little more time.
func extend(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		timer := time.AfterFunc(by, cancel)
		context.AfterFunc(ctx, func() { timer.Stop() })
	})
	return ctx, func() { stop(); cancel() }
}
