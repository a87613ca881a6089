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

// The times of the election. KEDA's calls must be answered again within 10 s after a
// leader dies. client-go reads the Lease every 1 to 2.2 retry periods. So a standby sees
// the last renewal up to 1.1 s late, and the end of the Lease up to another 1.1 s late.
// 6 s plus 2.2 s leave time for the first list.
const (
	LeaseDuration = 6 * time.Second
	RenewDeadline = 4 * time.Second
	RetryPeriod   = 500 * time.Millisecond
)

// electionQPS allows a few calls per retry period, and the calls for the labels.
const electionQPS = 20

// ErrLeaseLost means that the Lease was not renewed in time, or that another replica
// holds it.
var ErrLeaseLost = errors.New("the lease is lost: another replica may lead")

// ElectionConfig configures an Election. A zero value means the default.
type ElectionConfig struct {
	// LeaseDuration is how long the Lease is valid after a renewal, in whole seconds.
	LeaseDuration time.Duration
	// RenewDeadline is how long renewals may fail before this replica stops leading.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two renewals, and between two reads of a standby.
	RetryPeriod time.Duration
	// WriteTimeout is the longest time that one write to Bitbucket may take. Default
	// leader.WriteTimeout.
	WriteTimeout time.Duration
	// WriteSettle is how long it may take until a list from Bitbucket shows a write.
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

// Election decides with a Lease which of several replicas leads. client-go acquires and
// renews the Lease. Election adds two things: it computes when the holder may write
// (leader.Leadership), and it releases the Lease early only after all work has ended.
// It reads the process's own clock, as client-go's elector does.
type Election struct {
	config ElectionConfig
	lease  *lease
	log    *zap.Logger
}

// NewElection returns an Election that uses a lock. See LeaseLock.
func NewElection(lock resourcelock.Interface, config ElectionConfig) *Election {
	config = config.withDefaults()
	return &Election{
		config: config, log: config.Logger,
		lease: &lease{Interface: lock, grace: config.WriteTimeout + config.WriteSettle, log: config.Logger, lost: make(chan struct{})},
	}
}

// ElectionClient returns the client for LeaseLock and LeaderService. It is a separate
// client, so that a renewal does not wait in the rate limiter while a thousand sidecars
// attach at the same time. Its timeout leaves time for a second attempt at a renewal.
func ElectionClient(settings *rest.Config) (kubernetes.Interface, error) {
	settings = rest.CopyConfig(settings)
	settings.QPS, settings.Burst, settings.Timeout = electionQPS, 2*electionQPS, RenewDeadline/2
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return client, nil
}

// LeaseLock returns the lock of the Lease of that name. Each call uses a new identity:
// a container that restarts in its pod must not regard the previous process's Lease as
// its own.
func LeaseLock(client kubernetes.Interface, namespace, name, pod string) resourcelock.Interface {
	return &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: pod + "_" + uuid.NewString()},
	}
}

// Term implements leader.Leadership.
func (e *Election) Term() (leader.LeaseTerm, bool) { return e.lease.current() }

// Run takes part in the election until ctx ends. When this replica leads, Run calls lead.
// The context of lead ends with ctx or with the Lease. If lead returns nil, all its work
// has ended, and Run releases the Lease, so that another replica leads at once. Otherwise
// the Lease expires. Run returns lead's error or ErrLeaseLost. An Election can run only
// once. A replica that lost the Lease must restart its process.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	// The elector outlives ctx, to hold the Lease until the work has ended. Its own log
	// is discarded, because this package logs the same.
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
		// With true, the elector would also release the Lease if a renewal failed, and
		// only then report that it is lost.
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

// lead runs lead while the Lease is held.
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
		e.log.Warn("the lease could not be released and expires", zap.Error(err))
	}
}
