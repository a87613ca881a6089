package registrar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// noRoomDelay is when a sidecar that found no room in the scope may ask again.
const noRoomDelay = 15 * time.Second

// settleDelay is when to ask a leader again that may not write yet.
const settleDelay = 2 * time.Second

// Register creates the runner of the calling pod; the contract is in
// proto/runner/v1.
func (r *Registrar) Register(ctx context.Context, req *runnerv1.RegisterRequest) (*runnerv1.RegisterResponse, error) {
	identity, err := r.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	r.config.Fleet.Ask(identity.PodUID)
	group, _, err := r.member(ctx, identity)
	if err != nil {
		r.config.Count(refusals[status.Code(err)])
		return nil, err
	}
	// One at a time in a scope, or two could both see the last free place.
	scope := group.Scope
	if err := scope.Lock(ctx); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	defer scope.Unlock()
	group, member, ok := r.config.Fleet.Member(identity.PodUID)
	if !ok || group.Scope != scope {
		return nil, status.Error(codes.Unavailable, "the pod's group changed meanwhile")
	}
	response, outcome, err := r.register(ctx, group, member, identity)
	r.config.Count(outcome)
	log := r.log.With(zap.Stringer("group", group.GroupKey), zap.String("pod", identity.PodName), zap.String("outcome", outcome), zap.String("sidecar", req.GetSidecarVersion()))
	if err != nil {
		log.Info("registration put off", zap.Error(err))
		return nil, err
	}
	log.Info("registration", zap.String("runner", response.GetRunner().GetUuid()), zap.String("reason", response.GetFinish().GetReason()))
	return response, nil
}

// refusals are the outcomes of a pod without a usable group, by the answer's code.
var refusals = map[codes.Code]string{codes.NotFound: "no_group", codes.InvalidArgument: "invalid_group"}

func (r *Registrar) register(ctx context.Context, group *fleet.Group, member fleet.Member, identity Identity) (response *runnerv1.RegisterResponse, outcome string, err error) {
	if _, err := r.config.Fleet.Group(group.GroupKey); err != nil {
		return nil, "failed", status.Error(codes.Unavailable, err.Error())
	}
	if member.State == fleet.Gone { // it counts for nothing any more, so it must not have a runner either
		return finish("the Job was told to end before"), "finished", nil
	}
	if err := group.Scope.Writable(); err != nil { // what is not known yet must not be counted
		return nil, "failed", r.statusOf(err)
	}
	name := fleet.RunnerName(identity.PodName, identity.PodUID)
	count := r.census(group, name)
	for _, existing := range count.own {
		if err := r.replaceable(existing, member); err != nil {
			return nil, "runner_exists", err
		}
	}
	full := count.live >= group.Spec.Rules.MaxRunners()
	if !full {
		if err := r.settled(group.Scope, name); err != nil {
			return nil, "ambiguous", err
		}
	}
	outcome = "registered"
	for _, existing := range count.own {
		if err := r.delete(ctx, group.Scope, existing); err != nil {
			return nil, "failed", r.statusOf(err)
		}
		outcome = "replaced"
	}
	switch {
	case full:
		r.config.Fleet.Tell(identity.PodUID)
		return finish(fmt.Sprintf("%d live runners of %s already, max is %d", count.live, group.GroupKey, group.Spec.Rules.MaxRunners())), "finished", nil
	case count.others >= policy.ScopeLimit && !r.reclaim(ctx, group.Scope):
		return nil, "no_room", retryIn(codes.ResourceExhausted, noRoomDelay,
			fmt.Sprintf("%d runners are registered in %s, Bitbucket allows %d", count.others, group.Scope.Written, policy.ScopeLimit))
	}
	return r.create(ctx, group, identity, name, outcome)
}

// reclaim takes a place of the full scope back from a runner of ours that is
// OFFLINE and has no pod, by the API server's own word. The reaper would wait for
// its grace; a Job that is wanted now need not.
func (r *Registrar) reclaim(ctx context.Context, scope *fleet.Scope) bool {
	if r.config.Pods == nil {
		return false
	}
	for _, runner := range r.config.Fleet.Podless()[scope] {
		if runner.State.Status != bitbucket.StatusOffline {
			continue
		}
		pods, err := r.config.Pods.LivePods(ctx)
		if err != nil || slices.ContainsFunc(pods, func(pod fleet.Pod) bool { return fleet.RunnerName(pod.Name, pod.UID) == runner.Name }) {
			return false // its pod is new, or nobody knows: the sidecar asks again
		}
		current, err := scope.Get(ctx, runner.UUID)
		if err != nil || current.State.Status != bitbucket.StatusOffline {
			continue
		}
		if err := r.delete(ctx, scope, current); err != nil {
			r.log.Warn("an OFFLINE runner's place was not taken back", zap.String("runner", runner.UUID), zap.Error(err))
			return false
		}
		r.log.Info("an OFFLINE runner's place was taken back", zap.String("runner", runner.UUID), zap.String("name", runner.Name))
		return true
	}
	return false
}

func finish(reason string) *runnerv1.RegisterResponse {
	return &runnerv1.RegisterResponse{Outcome: &runnerv1.RegisterResponse_Finish{Finish: &runnerv1.Finish{Reason: reason}}}
}

// census counts the runners of a scope for a pod that wants one.
type census struct {
	// own are the runners that bear the pod's name.
	own []bitbucket.Runner
	// live are the group's whose processes may run, without own.
	live int
	// others are all that take a place in the scope, without own.
	others int
}

// census counts from the scope's own view, not from the snapshot, which may be
// older than a registration of a moment ago. A registration whose outcome is not
// known keeps its place until a list could have shown it.
func (r *Registrar) census(group *fleet.Group, name string) census {
	members := map[string]fleet.State{}
	for _, m := range group.Members {
		members[m.Name] = m.State
	}
	var c census
	counted := map[string]struct{}{name: {}}
	count := func(name string) {
		c.others++
		state, member := members[name]
		if _, twice := counted[name]; member && !twice && state != fleet.Gone {
			c.live++ // a pod runs one process, whatever twins its name has
		}
		counted[name] = struct{}{}
	}
	for _, runner := range group.Scope.Runners() {
		if runner.Name == name && slices.Contains(runner.Labels, r.config.Fleet.Owner()) {
			c.own = append(c.own, runner)
			continue
		}
		count(runner.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, post := range r.ambiguous {
		if _, listed := counted[other]; !listed && post.scope == group.Scope && !r.outcomeKnown(post) {
			count(other)
		}
	}
	return c
}

// outcomeKnown says whether the scope's list shows what became of a POST.
func (r *Registrar) outcomeKnown(post attempt) bool {
	return post.scope.ListBegun().After(post.at.Add(r.config.WriteSettle))
}

// replaceable says whether an existing runner of the pod's name may be replaced:
// only if nobody can be running it. The sidecar asks to register only while its
// marker says that no environment was handed out.
func (r *Registrar) replaceable(existing bitbucket.Runner, member fleet.Member) error {
	activity := member.Telemetry.Activity
	if existing.State.Status == bitbucket.StatusUnregistered && activity != fleet.ActivityIdle && activity != fleet.ActivityBusy {
		return nil
	}
	return status.Errorf(codes.FailedPrecondition, "runner %s of this pod exists with status %s: it may be running and is not replaced", existing.UUID, existing.State.Status)
}

// settled refuses to repeat a POST whose outcome is unknown before a list that
// was begun later could have shown it.
func (r *Registrar) settled(scope *fleet.Scope, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	post, ok := r.ambiguous[name]
	if !ok {
		return nil
	}
	if post.scope != scope || r.outcomeKnown(post) {
		delete(r.ambiguous, name)
		return nil
	}
	scope.Hint()
	return retryIn(codes.Unavailable, 5*time.Second, "whether an earlier try registered this runner is not known yet")
}

func (r *Registrar) create(ctx context.Context, group *fleet.Group, identity Identity, name, outcome string) (*runnerv1.RegisterResponse, string, error) {
	// A registration begun is brought to its end, whatever becomes of the caller:
	// an aborted POST would leave a runner that nobody knows.
	runner, err := group.Scope.Create(context.WithoutCancel(ctx), bitbucket.NewRunner{Name: name, Labels: group.Spec.RunnerLabels(r.config.Fleet.Owner())})
	if err != nil {
		if errors.Is(err, bitbucket.ErrOutcomeUnknown) {
			r.doubt(name, attempt{scope: group.Scope, at: r.config.Clock.Now()})
			return nil, "ambiguous", r.statusOf(err)
		}
		return nil, "failed", r.statusOf(err)
	}
	r.remember(identity.PodUID, registration{scope: group.Scope, uuid: runner.UUID, at: r.config.Clock.Now()})
	scope := group.Scope.Resolved()
	environment := map[string]string{
		"ACCOUNT_UUID":                  scope.Workspace,
		"RUNNER_UUID":                   runner.UUID,
		"RUNTIME_PREREQUISITES_ENABLED": "true",
		"WORKING_DIRECTORY":             "/tmp",
	}
	if scope.Repository != "" {
		environment["REPOSITORY_UUID"] = scope.Repository
	}
	if client := runner.OAuthClient; client != nil {
		environment["OAUTH_CLIENT_ID"] = client.ID
		environment["OAUTH_CLIENT_SECRET"] = client.Secret.Reveal()
		environment["OAUTH_TOKEN_ENDPOINT"] = client.TokenEndpoint
	}
	return &runnerv1.RegisterResponse{Outcome: &runnerv1.RegisterResponse_Runner{
		Runner: &runnerv1.Runner{Uuid: runner.UUID, Name: name, Environment: environment, Place: &runnerv1.Place{
			Credentials: group.Scope.Credentials, WorkspaceUuid: scope.Workspace, RepositoryUuid: scope.Repository,
		}},
	}}, outcome, nil
}

// doubt remembers a POST of unknown outcome, and forgets those that are known by
// now although their pods have never asked again.
func (r *Registrar) doubt(name string, post attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, old := range r.ambiguous {
		if r.outcomeKnown(old) || post.at.Sub(old.at) > rememberFor {
			delete(r.ambiguous, other)
		}
	}
	r.ambiguous[name] = post
}

// rememberFor bounds the memory of registrations: no runner's life is longer.
const rememberFor = 7 * 24 * time.Hour

func (r *Registrar) remember(podUID string, known registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, old := range r.registered {
		if known.at.Sub(old.at) > rememberFor {
			delete(r.registered, uid)
		}
	}
	r.registered[podUID] = known
}

// statusOf gives an error of Bitbucket's the code that tells the sidecar what to do.
func (r *Registrar) statusOf(err error) error {
	var limited *bitbucket.RateLimitedError
	switch {
	case errors.As(err, &limited):
		return retryIn(codes.ResourceExhausted, max(limited.RetryAfter, noRoomDelay), err.Error())
	case errors.Is(err, fleet.ErrNotWritable):
		return retryIn(codes.Unavailable, settleDelay, err.Error())
	case errors.Is(err, bitbucket.ErrBudgetExhausted), errors.Is(err, bitbucket.ErrRunnerLimit):
		return retryIn(codes.ResourceExhausted, noRoomDelay, err.Error())
	case errors.Is(err, bitbucket.ErrMissingScope), errors.Is(err, bitbucket.ErrForbidden), errors.Is(err, bitbucket.ErrUnauthorized):
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}

func retryIn(code codes.Code, delay time.Duration, message string) error {
	withDelay, err := status.New(code, message).WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	if err != nil { // only for code OK
		return status.Error(code, message)
	}
	return withDelay.Err()
}
