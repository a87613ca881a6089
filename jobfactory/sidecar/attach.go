package sidecar

import (
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/status"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// attach keeps a stream open until ctx ends: states go up, orders come down.
func (s *Sidecar) attach(ctx context.Context) {
	wait := backoff{base: s.pace.attachBase, maximum: s.pace.attachMax}
	said := ""
	for {
		began := time.Now()
		err := s.link.use(func(client runnerv1.RunnerServiceClient) error { return s.stream(ctx, client) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > s.pace.settled {
			wait.reset()
			said = ""
		}
		if said != err.Error() {
			said = err.Error()
			s.log.Info("detached from the control plane, attaching again", zap.Stringer("code", status.Code(err)), zap.Error(err))
		}
		if !pause(ctx, wait.next()) {
			return
		}
	}
}

// stream opens one stream and serves it to its end, which is always an error
// but where ctx ended.
func (s *Sidecar) stream(ctx context.Context, client runnerv1.RunnerServiceClient) error {
	// The last states are still sent after ctx has ended.
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(s.pace.linger, cancel)
		context.AfterFunc(call, func() { timer.Stop() })
	})()
	s.ledger.acknowledge(false) // another control plane may answer now
	stream, err := client.Attach(call)
	if err != nil {
		return err
	}
	broken := make(chan error, 1)
	go func() { broken <- s.heed(stream) }()
	// A Send that fails leaves the cause to Recv.
	if !s.tell(stream, s.ledger.reports.reopen()) {
		return <-broken
	}
	for {
		select {
		case <-s.ledger.reports.changed:
			if !s.tell(stream, s.ledger.reports.take()...) {
				return <-broken
			}
		case err := <-broken:
			return err
		case <-ctx.Done():
			if !s.tell(stream, s.ledger.reports.take()...) {
				return <-broken
			}
			_ = stream.CloseSend() // never fails
			return <-broken
		}
	}
}

// tell sends states, and reports whether the stream still stood.
func (s *Sidecar) tell(stream runnerv1.RunnerService_AttachClient, reports ...report) bool {
	now, _ := s.ledger.look()
	for _, r := range reports {
		request := &runnerv1.AttachRequest{RunnerUuid: now.uuid, State: r.state, StepUuid: r.step, Place: now.place, Terminating: now.terminating,
			UnrecognizedOutput: r.unrecognized, StepsBegun: r.begun}
		if err := stream.Send(request); err != nil {
			return false
		}
		s.log.Debug("state sent", zap.Stringer("state", r.state), zap.String("step", r.step))
	}
	return true
}

// heed follows orders until the stream ends, and returns why it did.
func (s *Sidecar) heed(stream runnerv1.RunnerService_AttachClient) error {
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
			s.log.Info("told to stop the runner", zap.String("reason", order.Stop.GetReason()))
			s.ledger.stop(order.Stop.GetReason())
		case *runnerv1.AttachResponse_Drain:
			s.log.Info("the control plane takes the runner away once it is idle", zap.String("reason", order.Drain.GetReason()))
			s.ledger.acknowledge(true)
		}
	}
}
