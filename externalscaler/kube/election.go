package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/leader"
	"bitbucket-runner-scaler/externalscaler/pause"
)

// The times of the election. KEDA's calls must be answered again within 10 s after a
// leader dies: a standby sees each renewal at once by its watch, and leads when the Lease
// has expired. 6 s leave time for the first list.
const (
	LeaseDuration = 6 * time.Second
	RenewInterval = 2 * time.Second
	RenewDeadline = 5 * time.Second
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
	// RenewInterval is the time between two renewals.
	RenewInterval time.Duration
	// RenewDeadline is how long after its last renewal a replica stops leading.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two attempts at a renewal, and between two reads of
	// a standby whose watch has ended.
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
	def(&c.RenewInterval, RenewInterval)
	def(&c.RenewDeadline, RenewDeadline)
	def(&c.RetryPeriod, RetryPeriod)
	def(&c.WriteTimeout, leader.WriteTimeout)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// Election decides with a Lease which of several replicas leads. The holder renews the
// Lease with one write per interval. A standby watches the Lease, and reads it only when
// it may be free. client-go's elector would read and write it several times per second,
// because it polls, with one period for both. The rule is the same: a Lease is free when
// it was released, or when it has not changed for its duration by this process's own
// clock, and a write must name the version that was read.
type Election struct {
	config ElectionConfig
	lease  *lease
	log    *zap.Logger
}

// NewElection returns an Election that uses a lock. See LeaseLock.
func NewElection(lock Lock, config ElectionConfig) *Election {
	config = config.withDefaults()
	return &Election{
		config: config, log: config.Logger,
		lease: &lease{
			Lock: lock, duration: config.LeaseDuration, timeout: (config.RenewDeadline - config.RenewInterval) / 2,
			grace: config.WriteTimeout + config.WriteSettle, log: config.Logger, lost: make(chan struct{}),
		},
	}
}

// ElectionClient returns the client for LeaseLock and LeaderService. It is a separate
// client, so that a renewal does not wait in the rate limiter while a thousand sidecars
// attach at the same time.
func ElectionClient(settings *rest.Config) (kubernetes.Interface, error) {
	settings = rest.CopyConfig(settings)
	settings.QPS, settings.Burst = electionQPS, 2*electionQPS
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return client, nil
}

// Term implements leader.Leadership.
func (e *Election) Term() (leader.LeaseTerm, bool) { return e.lease.current() }

// Leader returns the identity of the replica that leads, as this one saw it last; empty if it has
// seen none.
func (e *Election) Leader() string {
	e.lease.mu.Lock()
	defer e.lease.mu.Unlock()
	return e.lease.leader
}

// Run takes part in the election until ctx ends. When this replica leads, Run calls lead.
// The context of lead ends with ctx or with the Lease. If lead returns nil, all its work
// has ended, and Run releases the Lease, so that another replica leads at once. Otherwise
// the Lease expires. Run returns lead's error or ErrLeaseLost. An Election can run only
// once. A replica that lost the Lease must restart its process.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	if !e.standBy(ctx) {
		return nil
	}
	// The renewals outlive ctx, to hold the Lease until the work has ended.
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.renew(renewing)
	}()
	err := e.lead(ctx, ended, lead)
	stop()
	<-ended
	if err == nil {
		e.release(ctx)
	}
	return err
}

// standBy returns true when this replica holds the Lease, and false when ctx has ended
// before.
func (e *Election) standBy(ctx context.Context) bool {
	watch := leaseWatch{lease: e.lease, silence: e.config.RenewInterval + e.config.RetryPeriod}
	defer watch.end()
	for ctx.Err() == nil {
		if e.lease.tryAcquire(ctx, watch.behind) {
			return true
		}
		watch.untilFree(ctx, wait.Jitter(e.config.RetryPeriod, 1))
	}
	return false
}

// renew renews the Lease until ctx ends or the Lease is lost.
func (e *Election) renew(ctx context.Context) {
	deadline := e.lease.lastRenewal().Add(e.config.RenewDeadline)
	next := e.config.RenewInterval
	for time.Now().Add(next).Before(deadline) && pause.For(ctx, clock.RealClock{}, next, nil) {
		switch err := e.lease.renew(ctx, deadline); {
		case errors.Is(err, ErrLeaseLost):
			return
		case err != nil:
			next = e.config.RetryPeriod
		default:
			last := e.lease.lastRenewal()
			deadline, next = last.Add(e.config.RenewDeadline), time.Until(last.Add(e.config.RenewInterval))
		}
	}
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
