package registrar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// When a sidecar may ask again.
const (
	// noRoomDelay, if it found no room in the scope.
	noRoomDelay = 15 * time.Second
	// writeWindowDelay, if this leader may not write yet.
	writeWindowDelay = 2 * time.Second
	// pendingDelay, if the outcome of an earlier try is not known yet.
	pendingDelay = 5 * time.Second
	// refusedDelay, if too many tokens of its peer were refused.
	refusedDelay = 5 * time.Second
)

// Register creates the runner of the calling pod; the contract is in
// proto/runner/v1.
func (r *Registrar) Register(ctx context.Context, req *runnerv1.RegisterRequest) (*runnerv1.RegisterResponse, error) {
	identity, err := r.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	r.config.Telemetry.NoteRegisterRequest(identity.PodUID)
	group, _, err := r.member(ctx, identity)
	if err != nil {
		r.config.Count(refusals[status.Code(err)])
		return nil, err
	}
	response, outcome, err := r.register(ctx, group, identity)
	r.config.Count(outcome)
	r.config.Telemetry.NoteRefusal(identity.PodUID, refusal(outcome, err))
	log := r.log.With(zap.Stringer("group", group.GroupKey), zap.String("pod", identity.PodName), zap.String("outcome", outcome), zap.String("sidecar", req.GetSidecarVersion()))
	if err != nil {
		level := zap.DebugLevel
		if r.isNews(identity.PodUID, outcome) {
			level = zap.InfoLevel
		}
		log.Log(level, "registration deferred", zap.Error(err))
		return nil, err
	}
	log.Info("registration", zap.String("runner", response.GetRunner().GetUuid()), zap.String("reason", response.GetFinish().GetReason()))
	return response, nil
}

// refusal is why a registration has failed at Bitbucket, or for what Bitbucket has said before;
// empty if nothing has.
func refusal(outcome string, err error) string {
	if err == nil || outcome != outcomeFailed {
		return ""
	}
	why := status.Convert(err).Message()
	if strings.Contains(why, scope.ErrNotWritable.Error()) {
		return "" // of this process alone, and for seconds
	}
	return why
}

// sayAgain is how long the same answer to a pod that waits is not logged again.
const sayAgain = 10 * time.Minute

// isNews reports whether the answer to a pod is another one than last, or was not logged
// for a while. A pod that waits asks every few seconds.
func (r *Registrar) isNews(podUID, outcome string) bool {
	now := r.config.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.deferred[podUID]; last.outcome == outcome && now.Sub(last.at) < sayAgain {
		return false
	}
	maps.DeleteFunc(r.deferred, func(_ string, last deferred) bool { return now.Sub(last.at) >= sayAgain })
	r.deferred[podUID] = deferred{outcome: outcome, at: now}
	return true
}

// refusals are the outcomes of a pod without a usable group, by the answer's code.
var refusals = map[codes.Code]string{codes.NotFound: "no_group", codes.InvalidArgument: "invalid_group"}

// Why a pod gets no runner, beside what package scope says.
var (
	errGroupChanged = errors.New("the pod's group changed meanwhile")
	errStopping     = errors.New("the Job was told to end before")
)

// runnerExistsError says that the pod's runner may be running already.
type runnerExistsError struct{ existing bitbucket.Runner }

func (e *runnerExistsError) Error() string {
	return fmt.Sprintf("runner %s of this pod exists with status %s: it may be running and is not replaced", e.existing.UUID, e.existing.State.Status)
}

func (r *Registrar) register(ctx context.Context, group *fleet.GroupSnapshot, identity Identity) (response *runnerv1.RegisterResponse, outcome string, err error) {
	decide := func() (scope.SlotRequest, error) { return r.slotRequest(group.Scope, identity) }
	registered, err := r.config.Writer.Register(ctx, group.Scope, decide)
	var full *scope.FullError
	if errors.As(err, &full) && r.reclaim(ctx, group.Scope) {
		registered, err = r.config.Writer.Register(ctx, group.Scope, decide)
	}
	var atMax *scope.AtMaxError
	switch {
	case errors.Is(err, errStopping):
		return finish(err.Error()), "finished", nil
	case errors.As(err, &atMax):
		return finish(fmt.Sprintf("%s: %v", group.GroupKey, err)), "finished", nil
	case err != nil:
		outcome, err = deferral(err)
		return nil, outcome, err
	}
	r.remember(identity.PodUID, registration{scope: scope.ID{Credentials: group.Scope.Credentials, Scope: registered.Scope}, uuid: registered.Runner.UUID, at: r.config.Clock.Now()})
	outcome = "registered"
	if registered.Replaced {
		outcome = "replaced"
	}
	return runnerResponse(group.Scope.Credentials, registered), outcome, nil
}

// slotRequest decides, while nobody else registers in the scope, what the pod may
// ask for: its group may have changed since it was found.
func (r *Registrar) slotRequest(in scope.ID, identity Identity) (scope.SlotRequest, error) {
	group, member, ok := r.config.Snapshots.Member(identity.PodUID)
	if !ok || group.Scope != in {
		return scope.SlotRequest{}, errGroupChanged
	}
	if _, err := r.config.Snapshots.Group(group.GroupKey); err != nil {
		return scope.SlotRequest{}, err
	}
	// It counts for nothing any more, so it must not have a runner either. The snapshot
	// may be older than the order to end.
	if member.State == fleet.Gone || r.config.Telemetry.IsStopping(identity.PodUID) {
		return scope.SlotRequest{}, errStopping
	}
	if err := r.config.CrashLoops.Admit(group, member.Job); err != nil {
		return scope.SlotRequest{}, err
	}
	live := map[string]bool{}
	for _, m := range group.Members {
		live[m.Name] = m.State != fleet.Gone
	}
	return scope.SlotRequest{
		Runner: bitbucket.NewRunner{
			Name: scope.RunnerName(identity.PodName, identity.PodUID), Labels: group.Spec.RunnerLabels(r.config.Owner),
		},
		Max:         group.Spec.Rules.MaxRunners(),
		Live:        func(name string) bool { return live[name] },
		Replaceable: func(existing bitbucket.Runner) error { return replaceable(existing, member.Telemetry.Activity) },
		AtMax:       func() { r.config.Telemetry.MarkStopping(identity.PodUID) },
	}, nil
}

// replaceable returns an error unless nobody can be running an existing runner of
// the pod's name. The sidecar asks to register only while its marker says that no
// environment was handed out.
func replaceable(existing bitbucket.Runner, activity fleet.Activity) error {
	if existing.State.Status == bitbucket.StatusUnregistered && activity != fleet.ActivityIdle && activity != fleet.ActivityBusy {
		return nil
	}
	return &runnerExistsError{existing}
}

// reclaim frees a slot of the full scope: it deletes a runner of this owner that
// is OFFLINE and has no pod according to the API server itself. The reaper would wait
// for its grace; a Job that is wanted now need not.
func (r *Registrar) reclaim(ctx context.Context, in scope.ID) bool {
	if r.config.Pods == nil {
		return false
	}
	for _, podless := range r.config.Snapshots.Podless() {
		runner := podless.Runner
		if podless.Scope != in || runner.State.Status != bitbucket.StatusOffline {
			continue
		}
		pods, err := r.config.Pods.LivePods(ctx)
		if err != nil || slices.ContainsFunc(pods, func(pod fleet.Pod) bool { return scope.RunnerName(pod.Name, pod.UID) == runner.Name }) {
			return false // its pod is new, or nobody knows: the sidecar asks again
		}
		current, err := r.config.Runners.Recheck(ctx, in, runner.UUID)
		if err != nil || current.State.Status != bitbucket.StatusOffline {
			continue
		}
		if err := r.delete(ctx, in, current); err != nil {
			r.log.Warn("the slot of an OFFLINE runner was not reclaimed", zap.String("runner", runner.UUID), zap.Error(err))
			return false
		}
		r.log.Info("the slot of an OFFLINE runner was reclaimed", zap.String("runner", runner.UUID), zap.String("name", runner.Name))
		return true
	}
	return false
}

func finish(reason string) *runnerv1.RegisterResponse {
	return &runnerv1.RegisterResponse{Outcome: &runnerv1.RegisterResponse_Finish{Finish: &runnerv1.Finish{Reason: reason}}}
}

// runnerResponse gives the sidecar its runner's environment.
func runnerResponse(credentials string, registered scope.Registered) *runnerv1.RegisterResponse {
	in, runner := registered.Scope, registered.Runner
	environment := map[string]string{
		"ACCOUNT_UUID":                  in.Workspace,
		"RUNNER_UUID":                   runner.UUID,
		"RUNTIME_PREREQUISITES_ENABLED": "true",
		"WORKING_DIRECTORY":             "/tmp",
	}
	if in.Repository != "" {
		environment["REPOSITORY_UUID"] = in.Repository
	}
	if client := runner.OAuthClient; client != nil {
		environment["OAUTH_CLIENT_ID"] = client.ID
		environment["OAUTH_CLIENT_SECRET"] = client.Secret.Reveal()
		environment["OAUTH_TOKEN_ENDPOINT"] = client.TokenEndpoint
	}
	return &runnerv1.RegisterResponse{Outcome: &runnerv1.RegisterResponse_Runner{
		Runner: &runnerv1.Runner{Uuid: runner.UUID, Name: runner.Name, Environment: environment, Place: &runnerv1.Place{
			Credentials: credentials, WorkspaceUuid: in.Workspace, RepositoryUuid: in.Repository,
		}},
	}}
}

// registrationMemory bounds the memory of registrations: no runner's life is longer.
const registrationMemory = 7 * 24 * time.Hour

func (r *Registrar) remember(podUID string, known registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, old := range r.registered {
		if known.at.Sub(old.at) > registrationMemory {
			delete(r.registered, uid)
		}
	}
	r.registered[podUID] = known
}

// deferral gives an error of a registration its outcome for the metric, and the
// code that says what the sidecar should do.
func deferral(err error) (outcome string, _ error) {
	var limited *bitbucket.RateLimitedError
	var full *scope.FullError
	var loop *crashloop.WaitError
	var exists *runnerExistsError
	switch {
	case errors.As(err, &exists):
		return "runner_exists", status.Error(codes.FailedPrecondition, err.Error())
	case errors.As(err, &loop):
		return "crash_loop", retryIn(codes.ResourceExhausted, loop.Wait, err)
	case errors.As(err, &full):
		return "no_room", retryIn(codes.ResourceExhausted, noRoomDelay, err)
	case errors.Is(err, scope.ErrOutcomePending):
		return "ambiguous", retryIn(codes.Unavailable, pendingDelay, err)
	case errors.Is(err, bitbucket.ErrOutcomeUnknown):
		return "ambiguous", status.Error(codes.Unavailable, err.Error())
	case errors.As(err, &limited):
		return outcomeFailed, retryIn(codes.ResourceExhausted, max(limited.RetryAfter, noRoomDelay), err)
	case errors.Is(err, scope.ErrNotWritable):
		return outcomeFailed, retryIn(codes.Unavailable, writeWindowDelay, err)
	case errors.Is(err, bitbucket.ErrBudgetExhausted), errors.Is(err, bitbucket.ErrRunnerLimit):
		return outcomeFailed, retryIn(codes.ResourceExhausted, noRoomDelay, err)
	case errors.Is(err, bitbucket.ErrMissingScope), errors.Is(err, bitbucket.ErrForbidden), errors.Is(err, bitbucket.ErrUnauthorized):
		return outcomeFailed, status.Error(codes.PermissionDenied, err.Error())
	}
	return outcomeFailed, status.Error(codes.Unavailable, err.Error())
}

func retryIn(code codes.Code, delay time.Duration, cause error) error {
	withDelay, err := status.New(code, cause.Error()).WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	if err != nil { // only for code OK
		return status.Error(code, cause.Error())
	}
	return withDelay.Err()
}
