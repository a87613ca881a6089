package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"bitbucket-runner-scaler/externalscaler/leader"
)

// Times of the election. KEDA's calls must be answered again within 10 s of a
// leader's death. client-go looks at the Lease every 1 to 2.2 retry periods, so a
// standby sees the last renewal, and then its end, each up to 1.1 s late: 6 s and
// twice 1.1 s leave time for the first list.
const (
	LeaseDuration = 6 * time.Second
	RenewDeadline = 4 * time.Second
	RetryPeriod   = 500 * time.Millisecond
)

// electionQPS is for a few calls each retry period, and the labels.
const electionQPS = 20

// ErrLeaseLost says that the Lease was not renewed in time, or is another's.
var ErrLeaseLost = errors.New("the lease is lost: another replica may lead")

// ElectionConfig is what an Election is made of; zero values are the defaults.
type ElectionConfig struct {
	// LeaseDuration is how long a Lease holds after a renewal; whole seconds.
	LeaseDuration time.Duration
	// RenewDeadline is how long renewing may fail until leading ends.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two renewals, or two looks of a standby.
	RetryPeriod time.Duration
	// WriteTimeout is the longest that one write at Bitbucket may take. Default
	// leader.WriteTimeout.
	WriteTimeout time.Duration
	// WriteSettle is how long Bitbucket may take until a list shows a write.
	WriteSettle time.Duration
	Logger      *zap.Logger
}

func (c ElectionConfig) withDefaults() ElectionConfig {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.LeaseDuration, LeaseDuration)
	def(&c.RenewDeadline, RenewDeadline)
	def(&c.RetryPeriod, RetryPeriod)
	def(&c.WriteTimeout, leader.WriteTimeout)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// Election decides by a Lease which of several replicas leads. client-go holds the
// Lease; what is added here is for how long a holder may write (leader.Leadership), and
// that it is given up early only after all work has ended in order. Times are the
// process's own clock, which client-go's elector reads too.
type Election struct {
	config ElectionConfig
	lease  *lease
	log    *zap.Logger
}

// NewElection makes an Election over a lock; see LeaseLock.
func NewElection(lock resourcelock.Interface, config ElectionConfig) *Election {
	config = config.withDefaults()
	return &Election{
		config: config, log: config.Logger,
		lease: &lease{Interface: lock, grace: config.WriteTimeout + config.WriteSettle, log: config.Logger, lost: make(chan struct{})},
	}
}

// ElectionClient makes the client for LeaseLock and LeaderService. It is one of its own:
// a thousand sidecars that attach at once must not hold up a renewal in the queue
// of the other client's rate limit. A call that hangs is tried again in time.
func ElectionClient(settings *rest.Config) (kubernetes.Interface, error) {
	settings = rest.CopyConfig(settings)
	settings.QPS, settings.Burst, settings.Timeout = electionQPS, 2*electionQPS, RenewDeadline/2
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return client, nil
}

// LeaseLock is the Lease of that name. The identity is new at each call: a
// container that starts again in its pod must not take the Lease of the process
// before it for its own.
func LeaseLock(client kubernetes.Interface, namespace, name, pod string) resourcelock.Interface {
	return &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: pod + "_" + uuid.NewString()},
	}
}

// Term implements leader.Leadership.
func (e *Election) Term() (leader.LeaseTerm, bool) { return e.lease.current() }

// Run takes part until ctx ends. Once this replica leads it calls lead, whose
// context ends with ctx or with the Lease. When lead returns nil all its work has
// ended in order, and the Lease is released, so that another leads at once;
// otherwise it runs out. The error is lead's, or ErrLeaseLost. An Election is run
// once: who lost the Lease starts again as another process.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	// The elector outlives ctx, to hold the Lease until the work has ended. What it
	// would log is logged here.
	electing, stop := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), klog.Logger{}))
	defer stop()
	leads, ended := make(chan struct{}), make(chan struct{})
	elector, err := e.elector(func() { close(leads) })
	if err != nil {
		return err
	}
	go func() {
		defer close(ended)
		elector.Run(electing)
	}()
	select {
	case <-ctx.Done():
	case <-leads:
		err = e.lead(ctx, ended, lead)
	}
	stop()
	<-ended
	if err == nil {
		e.release(ctx)
	}
	return err
}

func (e *Election) elector(leads func()) (*leaderelection.LeaderElector, error) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: e.lease, LeaseDuration: e.config.LeaseDuration, RenewDeadline: e.config.RenewDeadline, RetryPeriod: e.config.RetryPeriod,
		// It would release the Lease also where renewing failed, and tell only then
		// that it is lost.
		ReleaseOnCancel: false,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { leads() },
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				e.log.Info("leader seen", zap.String("leader", identity), zap.Bool("self", identity == e.lease.Identity()))
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	return elector, nil
}

// lead calls lead for as long as the Lease is held.
func (e *Election) lead(ctx context.Context, ended <-chan struct{}, lead func(context.Context) error) error {
	leading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ended:
			cancel(ErrLeaseLost)
		case <-e.lease.lost:
			cancel(ErrLeaseLost)
		case <-leading.Done():
		}
	}()
	err := lead(leading)
	if errors.Is(context.Cause(leading), ErrLeaseLost) {
		return errors.Join(ErrLeaseLost, err)
	}
	return err
}

func (e *Election) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.config.RenewDeadline)
	defer cancel()
	if err := e.lease.release(ctx); err != nil {
		e.log.Warn("the lease could not be released and runs out", zap.Error(err))
	}
}
