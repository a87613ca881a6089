// Package registrar is the server side of runner/v1: it registers the runner of
// a calling pod at Bitbucket under the limits of its group and scope, follows what
// its sidecar reports, passes orders down, and deletes the runner once its process
// has ended. The caller is known from a review of the sidecar's ServiceAccount
// token, so no Bitbucket credentials ever enter a namespace where builds run.
// Which runner is to go is decided by package reaper.
package registrar

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Identity is the pod that a token was bound to.
type Identity struct{ Namespace, PodName, PodUID string }

// ErrToken says that a token is not a valid one of a pod for our audience.
var ErrToken = errors.New("not a valid token of a pod")

// TokenReviewer finds the pod that a ServiceAccount token is bound to.
type TokenReviewer interface {
	// Review returns ErrToken for a token that is refused; any other error means
	// that it could not be reviewed.
	Review(ctx context.Context, token string) (Identity, error)
}

// Pods reads the runner pods live, not from a cache.
type Pods interface {
	LivePods(ctx context.Context) ([]fleet.Pod, error)
}

// Snapshots are the observed groups and runners.
type Snapshots interface {
	// Wait returns a channel that is closed when the next snapshot is in place.
	Wait() <-chan struct{}
	// Member finds the group and the Job of a pod.
	Member(podUID string) (*fleet.GroupSnapshot, fleet.Member, bool)
	// HasPod reports whether a pod is one of a runner Job, also of one that was deleted.
	HasPod(podUID string) bool
	// Group returns a group if its list is fresh enough to act on.
	Group(key fleet.GroupKey) (*fleet.GroupSnapshot, error)
	// Faulty are the groups without a snapshot, and why.
	Faulty() map[fleet.GroupKey]error
	// Podless are our runners that no known pod is named after.
	Podless() []fleet.Podless
	// Sync waits for a snapshot that shows all that was known when it was called.
	Sync(ctx context.Context) error
}

// Telemetry takes what pods say of themselves.
type Telemetry interface {
	Report(podUID string, report fleet.Telemetry)
	Detach(podUID string)
	NoteRegisterRequest(podUID string)
	// NoteRefusal notes why Bitbucket has refused what the pod asked for; empty if it has not.
	NoteRefusal(podUID, why string)
	MarkStopping(podUID string)
	IsStopping(podUID string) bool
}

// outcomeFailed is the outcome of a registration that Bitbucket has refused or not answered, or for
// which there is no current list.
const outcomeFailed = "failed"

// Writer registers and removes runners.
type Writer interface {
	Register(ctx context.Context, id scope.ID, decide func() (scope.SlotRequest, error)) (scope.Registered, error)
	Disable(ctx context.Context, id scope.ID, runner bitbucket.Runner) error
	Delete(ctx context.Context, id scope.ID, runner bitbucket.Runner) error
}

// Runners reads single runners.
type Runners interface {
	FindRunner(name, reported string) (scope.ID, bitbucket.Runner, bool)
	Listed(id scope.ID, uuid string) (scope.Listed, bool)
	Recheck(ctx context.Context, id scope.ID, uuid string) (bitbucket.Runner, error)
}

// CrashLoops says which groups' Jobs keep failing, and learns how runners end.
type CrashLoops interface {
	// Admit returns a *crashloop.WaitError if a Job of the group must wait.
	Admit(group *fleet.GroupSnapshot, job *fleet.Job) error
	// Ended notes the end of a runner that nobody told to end.
	Ended(group *fleet.GroupSnapshot, end crashloop.End)
}

// Measures takes how runners have lived.
type Measures interface {
	// Lived takes the time from a runner's registration to its end.
	Lived(key fleet.GroupKey, took time.Duration)
	// Ran takes how many steps it began.
	Ran(key fleet.GroupKey, steps uint32)
}

// unmeasured is the Measures of a Registrar that nobody measures.
type unmeasured struct{}

func (unmeasured) Lived(fleet.GroupKey, time.Duration) {}
func (unmeasured) Ran(fleet.GroupKey, uint32)          {}

// Outcomes are all that Config.Count is called with.
func Outcomes() []string {
	return []string{
		"registered", "replaced", "finished", "no_room", "crash_loop", "ambiguous", outcomeFailed, "no_group", "invalid_group", "runner_exists",
		"unauthenticated", "unreviewed",
	}
}

// Config is what a Registrar is made of.
type Config struct {
	// Owner is the label of the runners of this installation.
	Owner     string
	Snapshots Snapshots
	Telemetry Telemetry
	Writer    Writer
	Runners   Runners
	Reviewer  TokenReviewer
	// MemberWait bounds how long a call waits for the watch to show its pod.
	// Default 5 s.
	MemberWait time.Duration
	// Pods says whether an OFFLINE runner that holds the last slot of a scope has
	// a pod left; nil if no slot is ever reclaimed.
	Pods Pods
	// CrashLoops delays the runners of groups whose Jobs keep failing.
	CrashLoops CrashLoops
	// Count is called once for each registration with its outcome: registered,
	// replaced, finished, no_room, crash_loop, ambiguous, failed, or why it was refused:
	// no_group, invalid_group, runner_exists. For a call of any kind that did not
	// prove its identity: unauthenticated, or unreviewed if the review failed.
	Count func(outcome string)
	// Measures takes how runners have lived; nil if nobody asks.
	Measures Measures
	Clock    clock.PassiveClock
	Logger   *zap.Logger
}

// Registrar implements RunnerService. Safe for concurrent use.
type Registrar struct {
	runnerv1.UnimplementedRunnerServiceServer
	config  Config
	log     *zap.Logger
	reviews *reviews

	mu       sync.Mutex
	sessions map[string]*session // by pod UID
	// registered remembers where a pod's runner lives, for the case that its
	// ScaledJob is gone by the time it is deregistered.
	registered map[string]registration
	// deferred is what pods that wait were answered last, by their UIDs.
	deferred map[string]deferred
}

// deferred is an answer that was logged.
type deferred struct {
	outcome string
	at      time.Time
}

type registration struct {
	scope scope.ID
	uuid  string
	at    time.Time
}

// New makes a Registrar.
func New(config Config) *Registrar {
	if config.MemberWait == 0 {
		config.MemberWait = 5 * time.Second
	}
	if config.Count == nil {
		config.Count = func(string) {}
	}
	if config.Measures == nil {
		config.Measures = unmeasured{}
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	return &Registrar{
		config: config, log: config.Logger, reviews: newReviews(config.Reviewer, config.Clock),
		sessions: map[string]*session{}, registered: map[string]registration{}, deferred: map[string]deferred{},
	}
}

// Service returns the Registrar in the form that adds itself to a server: its own
// Register is the wire's.
func (r *Registrar) Service() Service { return Service{r} }

// Service adds a Registrar to a gRPC server.
type Service struct{ registrar *Registrar }

// Register adds the service to a server.
func (s Service) Register(server grpc.ServiceRegistrar) {
	runnerv1.RegisterRunnerServiceServer(server, s.registrar)
}

// authenticate finds the calling pod from its token, and counts calls without one.
func (r *Registrar) authenticate(ctx context.Context) (Identity, error) {
	identity, err := r.review(ctx)
	switch status.Code(err) {
	case codes.OK:
	case codes.Unauthenticated:
		r.config.Count("unauthenticated")
	default:
		r.config.Count("unreviewed")
	}
	return identity, err
}

func (r *Registrar) review(ctx context.Context) (Identity, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return Identity{}, status.Error(codes.Unauthenticated, "authorization: missing, want one value: Bearer <ServiceAccount token>")
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok || token == "" {
		return Identity{}, status.Error(codes.Unauthenticated, "authorization: want: Bearer <ServiceAccount token>")
	}
	identity, err := r.reviews.review(ctx, token)
	switch {
	case errors.Is(err, errTooManyRefused):
		return Identity{}, retryIn(codes.ResourceExhausted, refusedDelay, fmt.Errorf("authorization: %w", err))
	case errors.Is(err, ErrToken):
		return Identity{}, status.Error(codes.Unauthenticated, "authorization: "+err.Error())
	case err != nil:
		return Identity{}, status.Error(codes.Unavailable, "the token could not be reviewed: "+err.Error())
	}
	return identity, nil
}

// member finds the group and Job of a pod, waiting a little for the watch.
func (r *Registrar) member(ctx context.Context, identity Identity) (*fleet.GroupSnapshot, fleet.Member, error) {
	deadline := r.config.Clock.Now().Add(r.config.MemberWait)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for {
		wait := r.config.Snapshots.Wait()
		if group, member, ok := r.config.Snapshots.Member(identity.PodUID); ok {
			return group, member, nil
		}
		select {
		case <-ctx.Done():
			return nil, fleet.Member{}, r.withoutGroup(identity)
		case <-wait:
		}
	}
}

// knownPod waits a little for the watch to show a pod of a runner Job.
func (r *Registrar) knownPod(ctx context.Context, identity Identity) error {
	ctx, cancel := context.WithDeadline(ctx, r.config.Clock.Now().Add(r.config.MemberWait))
	defer cancel()
	for {
		wait := r.config.Snapshots.Wait()
		if r.config.Snapshots.HasPod(identity.PodUID) {
			return nil
		}
		select {
		case <-ctx.Done():
			return status.Errorf(codes.NotFound, "pod %s/%s is not of a runner Job", identity.Namespace, identity.PodName)
		case <-wait:
		}
	}
}

// withoutGroup says why a pod has no group: a fault of the ScaledJobs in its
// namespace, if there is one, is the likely cause.
func (r *Registrar) withoutGroup(identity Identity) error {
	for key, err := range r.config.Snapshots.Faulty() {
		if key.Namespace == identity.Namespace && strings.HasPrefix(identity.PodName, key.Name+"-") {
			return status.Errorf(codes.InvalidArgument, "ScaledJob %s: %v", key, err)
		}
	}
	return status.Errorf(codes.NotFound, "no ScaledJob of this installation owns pod %s/%s", identity.Namespace, identity.PodName)
}
