// Package registrar is the server side of runner/v1: it registers the runner of
// a calling pod at Bitbucket under the hard caps, follows what its sidecar
// reports, passes orders down, and deletes the runner once its process has
// ended. Who calls is known from a review of the sidecar's ServiceAccount
// token, so no credentials of Bitbucket ever enter a namespace where builds run.
// Which runner is to go is decided by package reaper.
package registrar

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Identity is the pod that a token was bound to.
type Identity struct{ Namespace, PodName, PodUID string }

// ErrToken says that a token is not a valid one of a pod for our audience.
var ErrToken = errors.New("not a valid token of a pod")

// TokenReviewer tells which pod a ServiceAccount token is bound to.
type TokenReviewer interface {
	// Review returns ErrToken for a token that is refused; any other error means
	// that it could not be reviewed.
	Review(ctx context.Context, token string) (Identity, error)
}

// Pods reads the runner pods live, not from a cache.
type Pods interface {
	LivePods(ctx context.Context) ([]fleet.Pod, error)
}

// Config is what a Registrar is made of.
type Config struct {
	Fleet    *fleet.Fleet
	Reviewer TokenReviewer
	// WriteSettle is how long Bitbucket may take until a list shows a write.
	WriteSettle time.Duration
	// MemberWait bounds how long a call waits for the watch to show its pod.
	// Default 5 s.
	MemberWait time.Duration
	// Pods tells whether an OFFLINE runner that holds the last place of a scope has
	// a pod left; nil where no place is ever taken back.
	Pods Pods
	// Count is called once for each registration with its outcome: registered,
	// replaced, finished, no_room, ambiguous, failed, or why it was refused:
	// no_group, invalid_group, runner_exists. For a call of any kind that did not
	// prove who it is: unauthenticated, or unreviewed where nobody could tell.
	Count  func(outcome string)
	Clock  clock.PassiveClock
	Logger *zap.Logger
}

// Registrar implements RunnerService. Safe for concurrent use.
type Registrar struct {
	runnerv1.UnimplementedRunnerServiceServer
	config Config
	log    *zap.Logger

	mu       sync.Mutex
	sessions map[string]*session // by pod UID
	// ambiguous are the POSTs that may or may not have been applied, by the names
	// of their runners.
	ambiguous map[string]attempt
	// registered remembers where a pod's runner lives, for the case that its
	// ScaledJob is gone by the time it is deregistered.
	registered map[string]registration
}

// attempt is a POST of unknown outcome, and when it ended.
type attempt struct {
	scope *fleet.Scope
	at    time.Time
}

type registration struct {
	scope *fleet.Scope
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
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	return &Registrar{
		config: config, log: config.Logger,
		sessions: map[string]*session{}, ambiguous: map[string]attempt{}, registered: map[string]registration{},
	}
}

// Service gives the Registrar in the form that adds itself to a server: its own
// Register is the wire's.
func (r *Registrar) Service() Service { return Service{r} }

// Service adds a Registrar to a gRPC server.
type Service struct{ registrar *Registrar }

// Register adds the service to a server.
func (s Service) Register(server grpc.ServiceRegistrar) {
	runnerv1.RegisterRunnerServiceServer(server, s.registrar)
}

// authenticate finds the calling pod from its token, and counts who cannot say.
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
	identity, err := r.config.Reviewer.Review(ctx, token)
	switch {
	case errors.Is(err, ErrToken):
		return Identity{}, status.Error(codes.Unauthenticated, "authorization: "+err.Error())
	case err != nil:
		return Identity{}, status.Error(codes.Unavailable, "the token could not be reviewed: "+err.Error())
	}
	return identity, nil
}

// member finds the group and Job of a pod, waiting a little for the watch.
func (r *Registrar) member(ctx context.Context, identity Identity) (*fleet.Group, fleet.Member, error) {
	deadline := r.config.Clock.Now().Add(r.config.MemberWait)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for {
		wait := r.config.Fleet.Wait()
		if group, member, ok := r.config.Fleet.Member(identity.PodUID); ok {
			return group, member, nil
		}
		select {
		case <-ctx.Done():
			return nil, fleet.Member{}, r.withoutGroup(identity)
		case <-wait:
		}
	}
}

// withoutGroup says why a pod has no group: a fault of the ScaledJobs in its
// namespace, if there is one, is the likely cause.
func (r *Registrar) withoutGroup(identity Identity) error {
	for key, err := range r.config.Fleet.Faulty() {
		if key.Namespace == identity.Namespace && strings.HasPrefix(identity.PodName, key.Name+"-") {
			return status.Errorf(codes.InvalidArgument, "ScaledJob %s: %v", key, err)
		}
	}
	return status.Errorf(codes.NotFound, "no ScaledJob of this installation owns pod %s/%s", identity.Namespace, identity.PodName)
}
