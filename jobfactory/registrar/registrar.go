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

	"bitbucket-runner-scaler/externalscaler/fleet"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Audience is the audience that sidecars' tokens must be made for.
const Audience = "bitbucket-runner-scaler"

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

// Config is what a Registrar is made of.
type Config struct {
	Fleet    *fleet.Fleet
	Reviewer TokenReviewer
	// WriteSettle is how long Bitbucket may take until a list shows a write.
	WriteSettle time.Duration
	// MemberWait bounds how long a call waits for the watch to show its pod.
	// Default 5 s.
	MemberWait time.Duration
	// WriteTimeout bounds each write at Bitbucket, retries included. Default 15 s.
	WriteTimeout time.Duration
	// Count is called once for each registration, with its outcome: registered,
	// replaced, finished, no_room, ambiguous, refused or failed.
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
	// ambiguous are the names of runners whose POST may or may not have been
	// applied, and since when.
	ambiguous map[string]time.Time
	// registered remembers where a pod's runner lives, for the case that its
	// ScaledJob is gone by the time it is deregistered.
	registered map[string]registration
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
	if config.WriteTimeout == 0 {
		config.WriteTimeout = 15 * time.Second
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
		sessions: map[string]*session{}, ambiguous: map[string]time.Time{}, registered: map[string]registration{},
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

// authenticate finds the calling pod from its token.
func (r *Registrar) authenticate(ctx context.Context) (Identity, error) {
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

// Stop tells a pod's sidecar to end its runner, which was seen idle and
// disabled. It reports whether the sidecar could be told.
func (r *Registrar) Stop(podUID, reason string) bool {
	r.mu.Lock()
	session := r.sessions[podUID]
	r.mu.Unlock()
	if session == nil {
		return false
	}
	r.config.Fleet.Tell(podUID)
	session.order(&runnerv1.AttachResponse{Order: &runnerv1.AttachResponse_Stop{Stop: &runnerv1.Stop{Reason: reason}}})
	return true
}

// Attached reports whether a pod's sidecar can be told anything.
func (r *Registrar) Attached(podUID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[podUID] != nil
}

// session is one sidecar's open stream.
type session struct {
	orders chan *runnerv1.AttachResponse
	// replaced is closed when the pod's sidecar opens another stream.
	replaced chan struct{}
}

func (s *session) order(order *runnerv1.AttachResponse) {
	select {
	case s.orders <- order:
	default: // the sidecar has an order of ours that it has not read yet
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
	pod := identity.PodUID
	mine := &session{orders: make(chan *runnerv1.AttachResponse, 1), replaced: make(chan struct{})}
	r.mu.Lock()
	if old := r.sessions[pod]; old != nil {
		close(old.replaced)
	}
	r.sessions[pod] = mine
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.sessions[pod] == mine {
			delete(r.sessions, pod)
			r.config.Fleet.Detach(pod)
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
			if err := stream.Send(order); err != nil {
				return fmt.Errorf("send order: %w", err)
			}
		}
	}
}

// receive reads states until the stream ends.
func (r *Registrar) receive(stream grpc.BidiStreamingServer[runnerv1.AttachRequest, runnerv1.AttachResponse], pod string, mine *session) {
	for {
		request, err := stream.Recv()
		if err != nil {
			return
		}
		select {
		case <-mine.replaced:
			return
		default:
		}
		r.config.Fleet.Report(pod, fleet.Telemetry{
			Attached: true, RunnerUUID: request.GetRunnerUuid(),
			Activity: activities[request.GetState()], StepUUID: request.GetStepUuid(),
		})
	}
}
