package registrar

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/scope"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Stop tells a pod's sidecar to end its runner, which was seen idle and
// disabled. It reports whether the sidecar could be told.
func (r *Registrar) Stop(podUID, reason string) bool {
	r.mu.Lock()
	session := r.sessions[podUID]
	r.mu.Unlock()
	if session == nil {
		return false
	}
	r.config.Telemetry.MarkStopping(podUID)
	session.order(stopOrder(reason))
	return true
}

// snapshotWait bounds the wait for a snapshot. Without one a runner ends all the same.
const snapshotWait = 2 * time.Second

// awaitSnapshot waits until KEDA's answers no longer count a pod that was told to end. Its Job
// must not finish before that: in place of a Job that is gone but still counted, KEDA creates another.
func (r *Registrar) awaitSnapshot(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	if err := r.config.Snapshots.Sync(ctx); err != nil {
		r.log.Debug("a runner ends before a snapshot shows it", zap.Error(err))
	}
}

// Drain tells a pod's sidecar that its runner takes no new step, and is stopped
// once it is idle.
func (r *Registrar) Drain(podUID, reason string) {
	r.mu.Lock()
	session := r.sessions[podUID]
	r.mu.Unlock()
	if session != nil {
		session.order(drainOrder(reason))
	}
}

func drainOrder(reason string) *runnerv1.AttachResponse {
	return &runnerv1.AttachResponse{Order: &runnerv1.AttachResponse_Drain{Drain: &runnerv1.Drain{Reason: reason}}}
}

func stopOrder(reason string) *runnerv1.AttachResponse {
	return &runnerv1.AttachResponse{Order: &runnerv1.AttachResponse_Stop{Stop: &runnerv1.Stop{Reason: reason}}}
}

// Attached reports whether a pod's sidecar can be told anything.
func (r *Registrar) Attached(podUID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[podUID] != nil
}

// Sidecars counts the sidecars that are attached.
func (r *Registrar) Sidecars() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// session is one sidecar's open stream.
type session struct {
	orders chan *runnerv1.AttachResponse
	// replaced is closed when the pod's sidecar opens another stream.
	replaced chan struct{}
}

// maxOrders is more than a pod is ever told in one session: the acknowledgement
// of its end, once that its runner drains, and Stop.
const maxOrders = 4

func (s *session) order(order *runnerv1.AttachResponse) {
	select {
	case s.orders <- order:
	default: // the sidecar has not read its earlier orders yet
	}
}

var activities = map[runnerv1.RunnerState]fleet.Activity{
	runnerv1.RunnerState_RUNNER_STATE_STARTING: fleet.ActivityStarting,
	runnerv1.RunnerState_RUNNER_STATE_IDLE:     fleet.ActivityIdle,
	runnerv1.RunnerState_RUNNER_STATE_BUSY:     fleet.ActivityBusy,
	runnerv1.RunnerState_RUNNER_STATE_STOPPING: fleet.ActivityStopping,
	runnerv1.RunnerState_RUNNER_STATE_ENDED:    fleet.ActivityEnded,
}

// Attach takes a sidecar's states and gives it orders for as long as the stream
// lasts. The newest stream of a pod replaces an older one.
func (r *Registrar) Attach(stream grpc.BidiStreamingServer[runnerv1.AttachRequest, runnerv1.AttachResponse]) error {
	identity, err := r.authenticate(stream.Context())
	if err != nil {
		return err
	}
	if err := r.knownPod(stream.Context(), identity); err != nil {
		return err
	}
	pod := identity.PodUID
	mine := &session{orders: make(chan *runnerv1.AttachResponse, maxOrders), replaced: make(chan struct{})}
	r.mu.Lock()
	if old := r.sessions[pod]; old != nil {
		close(old.replaced)
	}
	r.sessions[pod] = mine
	r.mu.Unlock()
	if r.config.Telemetry.IsStopping(pod) { // the stream may have broken before the order came through
		mine.order(stopOrder("told before"))
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.sessions[pod] == mine {
			delete(r.sessions, pod)
			r.config.Telemetry.Detach(pod)
		}
	}()

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.receive(stream, pod, mine)
	}()
	for {
		select {
		case <-mine.replaced:
			return status.Error(codes.Aborted, "the pod opened another stream")
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-ended:
			return nil // the sidecar closed the stream, or it broke: it will open another
		case order := <-mine.orders:
			if order.GetStop() != nil {
				r.awaitSnapshot(stream.Context())
			}
			if err := stream.Send(order); err != nil {
				return fmt.Errorf("send order: %w", err)
			}
		}
	}
}

// receive reads states until the stream ends.
func (r *Registrar) receive(stream grpc.BidiStreamingServer[runnerv1.AttachRequest, runnerv1.AttachResponse], pod string, mine *session) {
	acknowledged := false
	for {
		request, err := stream.Recv()
		if err != nil {
			return
		}
		if request.GetTerminating() && !acknowledged {
			acknowledged = true
			mine.order(drainOrder("the pod ends, its runner is disabled and stopped once it is idle"))
		}
		if !r.report(pod, mine, request) {
			return
		}
	}
}

// report passes a state on, unless the session is no longer the pod's: what it
// still had to say must neither follow a newer stream's word nor outlive its end.
func (r *Registrar) report(pod string, mine *session, request *runnerv1.AttachRequest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[pod] != mine {
		return false
	}
	r.config.Telemetry.Report(pod, fleet.Telemetry{
		Attached: true, RunnerUUID: request.GetRunnerUuid(),
		Activity: activities[request.GetState()], StepUUID: request.GetStepUuid(),
		Scope: scopeOf(request.GetPlace()), Terminating: request.GetTerminating(), Unrecognized: request.GetUnrecognizedOutput(),
		StepsBegun: request.GetStepsBegun(), Run: runOf(request),
	})
	return true
}

// runOf reads the steps of a report.
func runOf(request *runnerv1.AttachRequest) queue.Run {
	run := queue.Run{Running: stepOf(request.GetStep()), Ended: stepOf(request.GetEndedStep().GetStep())}
	if run.Ended != (queue.StepID{}) {
		run.Result = request.GetEndedStep().GetResult()
	}
	return run
}

// stepOf returns a step of which all UUIDs are known, else zero.
func stepOf(step *runnerv1.Step) queue.StepID {
	id := queue.StepID{Repository: strings.ToLower(step.GetRepositoryUuid()), Pipeline: strings.ToLower(step.GetPipelineUuid()), Step: strings.ToLower(step.GetStepUuid())}
	if !bitbucket.IsUUID(id.Repository) || !bitbucket.IsUUID(id.Pipeline) || !bitbucket.IsUUID(id.Step) {
		return queue.StepID{}
	}
	return id
}

// scopeOf reads the scope of a report; anything but UUIDs, which would cost a call
// to resolve, does not come from a registration.
func scopeOf(place *runnerv1.Place) scope.ID {
	in := bitbucket.Scope{Workspace: place.GetWorkspaceUuid(), Repository: place.GetRepositoryUuid()}
	if place.GetCredentials() == "" || !bitbucket.IsUUID(in.Workspace) || in.Repository != "" && !bitbucket.IsUUID(in.Repository) {
		return scope.ID{}
	}
	return scope.ID{Credentials: place.GetCredentials(), Scope: in}
}
