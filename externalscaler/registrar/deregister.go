package registrar

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// deregisterTimeout bounds a deregistration; what is not done by then is the
// reaper's.
const deregisterTimeout = 20 * time.Second

// Deregister deletes the runner of the calling pod, whose process has ended. A
// runner that Bitbucket still shows with a step is disabled and left: deleting
// it would strand the step's record.
func (r *Registrar) Deregister(ctx context.Context, req *runnerv1.DeregisterRequest) (*runnerv1.DeregisterResponse, error) {
	identity, err := r.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	// The pod may be killed any moment: what was begun is brought to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deregisterTimeout)
	defer cancel()
	r.noteEnd(identity, req)
	group, m, known := r.config.Snapshots.Member(identity.PodUID) // as it was before its end
	r.config.Telemetry.MarkStopping(identity.PodUID)
	defer r.awaitSnapshot(ctx) // the Job completes once this is answered
	in, runner, ok := r.find(identity, req.GetRunnerUuid())
	if !ok {
		return &runnerv1.DeregisterResponse{Gone: true}, nil
	}
	gone, err := r.deregister(ctx, in, runner)
	log := r.log.With(zap.String("pod", identity.PodName), zap.String("runner", runner.UUID))
	if err != nil {
		log.Warn("deregistration failed, the reaper goes on", zap.Error(err))
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	log.Info("deregistration", zap.Bool("gone", gone))
	if gone {
		if known {
			r.measure(group.GroupKey, m)
		}
		r.mu.Lock()
		delete(r.registered, identity.PodUID)
		r.mu.Unlock()
	}
	return &runnerv1.DeregisterResponse{Gone: gone}, nil
}

// measure passes on how the runner of a member has lived.
func (r *Registrar) measure(key fleet.GroupKey, m fleet.Member) {
	if m.Runner != nil && !m.Runner.CreatedOn.IsZero() {
		r.config.Measures.Lived(key, m.Age)
	}
	if report := m.Telemetry; report.RunnerUUID != "" && !report.Unrecognized {
		r.config.Measures.Ran(key, report.StepsBegun)
	}
}

// noteEnd notes whether the runner of a pod has crashed: it has if nobody told it to
// end. What was registered before this process led is not known, and not counted.
func (r *Registrar) noteEnd(identity Identity, req *runnerv1.DeregisterRequest) {
	r.mu.Lock()
	known, ok := r.registered[identity.PodUID]
	r.mu.Unlock()
	group, m, found := r.config.Snapshots.Member(identity.PodUID)
	if !ok || !found || m.Job == nil || m.Terminating() || r.config.Telemetry.IsStopping(identity.PodUID) {
		return
	}
	online := m.Telemetry.OnlineSince
	if m.Telemetry.Unrecognized {
		online = known.at // when it came online is not known
	}
	lived := time.Duration(0)
	if !online.IsZero() {
		lived = r.config.Clock.Since(online)
	}
	r.config.CrashLoops.Ended(group, crashloop.End{
		Job: m.Job, Lived: lived, TookStep: m.Used || m.Telemetry.StepsBegun > 0,
		Cause: causeOf(req), LastLine: printable(req.GetLastLine()),
	})
}

// killed is the exit code of a process that was killed: whether for its memory is only in
// the pod's status.
const killed = 128 + 9

// causeOf is the cause of a runner's end as far as its sidecar reports it.
func causeOf(req *runnerv1.DeregisterRequest) fleet.Cause {
	if req.ExitCode == nil || req.GetExitCode() == killed {
		return fleet.Cause{}
	}
	reason := "Error"
	if req.GetExitCode() == 0 {
		reason = "Completed"
	}
	return fleet.Cause{Reason: reason, Message: fmt.Sprintf("container runner: exit code %d", req.GetExitCode())}
}

// maxLastLine bounds what a pod may say about itself, in bytes.
const maxLastLine = 200

// printable makes a pod's text fit for a log, an Event and a page.
func printable(text string) string {
	text = text[:min(len(text), maxLastLine)]
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}

// find looks for the pod's runner: by its name in the lists, then where it was
// registered. The UUID that the sidecar names must be that of its own runner.
func (r *Registrar) find(identity Identity, uuid string) (scope.ID, bitbucket.Runner, bool) {
	name := scope.RunnerName(identity.PodName, identity.PodUID)
	if in, runner, ok := r.config.Runners.FindRunner(name, uuid); ok {
		return in, runner, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.registered[identity.PodUID]
	if !ok || uuid != "" && known.uuid != uuid {
		return scope.ID{}, bitbucket.Runner{}, false
	}
	return known.scope, bitbucket.Runner{UUID: known.uuid, Name: name}, true
}

func (r *Registrar) deregister(ctx context.Context, in scope.ID, runner bitbucket.Runner) (gone bool, err error) {
	// Disabled first: nothing may be assigned to it between the look and the
	// deletion. If Bitbucket cannot disable, only the read decides.
	if runner.State.Status != bitbucket.StatusDisabled {
		if err := r.config.Writer.Disable(ctx, in, runner); err != nil && !errors.Is(err, bitbucket.ErrDisableUnsupported) && !errors.Is(err, bitbucket.ErrNotFound) {
			return false, err
		}
	}
	if listed, ok := r.config.Runners.Listed(in, runner.UUID); ok && listed.ShowsSteps && listed.Runner.State.Status == bitbucket.StatusDisabled && listed.Runner.State.Step == nil {
		return true, r.delete(ctx, in, listed.Runner) // as the reaper saw it before it was stopped
	}
	current, err := r.config.Runners.Recheck(ctx, in, runner.UUID)
	if errors.Is(err, bitbucket.ErrNotFound) {
		return true, r.delete(ctx, in, runner) // recorded as gone; 404 is success
	}
	if err != nil {
		return false, err
	}
	if current.State.Step != nil && current.State.Status != bitbucket.StatusOffline {
		return false, nil
	}
	return true, r.delete(ctx, in, current)
}

func (r *Registrar) delete(ctx context.Context, in scope.ID, runner bitbucket.Runner) error {
	return r.config.Writer.Delete(context.WithoutCancel(ctx), in, runner)
}
