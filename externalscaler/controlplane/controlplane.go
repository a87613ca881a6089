// Package controlplane wires the parts of the control plane into one process:
// fleet, rules, the service that KEDA calls, registrar, reaper, and what an
// operator sees. It takes the cluster as an interface, so that the scaler runs it
// over client-go and the test bed in memory; it links neither.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/registrar"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/status"
)

// Bounds of the HTTP server.
const (
	httpTimeout  = 10 * time.Second
	httpShutdown = 3 * time.Second
)

// Cluster is all that the control plane needs of Kubernetes.
type Cluster interface {
	fleet.Kubernetes
	registrar.TokenReviewer
	reaper.Pods
	reaper.Jobs
	reaper.Events
}

// Config is what a ControlPlane is made of.
type Config struct {
	// Version of the build, for the log.
	Version string
	// Owner is the label of this installation's runners.
	Owner string
	// Cluster is nil where KEDA's calls are answered without Kubernetes; then no
	// runner is ever registered or removed.
	Cluster Cluster
	// Bitbucket is the client's configuration, without credentials.
	Bitbucket bitbucket.Config
	// HourlyBudget is how many calls a credentials set may make in an hour.
	HourlyBudget int
	// CredentialsDir and Lookup are where credentials sets come from.
	CredentialsDir string
	Lookup         func(string) (string, bool)
	// The times are those of fleet.Config and reaper.Config.
	PollInterval, MaxStaleness, WriteSettle, OrphanGrace, ReaperInterval time.Duration
	// StepSettle is reaper.Config.Settle; the others are named as there and in
	// fleet.Config.
	StepSettle, LostSight, LostAfter, StartLimit, DetachedLimit time.Duration

	DryRun, UnsafeScaleDown bool
	// Places keeps across restarts where runners of ours may be; nil where that need
	// not be.
	Places fleet.Places
	// Election decides which of several replicas leads; nil where this is the only
	// one.
	Election Election
	// Signpost leads KEDA and the sidecars to the leader; nil where nothing need be
	// done for that.
	Signpost Signpost
	// Nudger makes KEDA look at a ScaledJob anew; nil where that is never needed.
	Nudger Nudger
	// WhileLeading runs beside the rest while this process leads, and ends with its
	// context; nil for nothing.
	WhileLeading func(context.Context) error
	// Collectors are further metrics.
	Collectors []prometheus.Collector
	// ServerOptions are the gRPC server's, such as transport credentials.
	ServerOptions []grpc.ServerOption
	Logger        *zap.Logger
}

// ControlPlane is the wired process.
type ControlPlane struct {
	config    Config
	log       *zap.Logger
	fleet     *fleet.Fleet
	decisions *externalscaler.Decisions
	service   *externalscaler.Service
	status    *status.Status
	reaper    *reaper.Reaper // nil without a cluster
	gate      externalscaler.Gate
	grpc      *externalscaler.Server
	http      *http.Server
	ready     atomic.Bool
}

// New wires a ControlPlane; Run makes it live.
func New(c Config) (*ControlPlane, error) {
	p := &ControlPlane{config: c, log: c.Logger}
	var metrics *status.Metrics
	// A rotated secret is the same consumer's or user's: what it called counts on.
	budgets := map[string]*bitbucket.Budget{}
	store := credentials.NewStore(c.CredentialsDir, c.Lookup, func(name string, set bitbucket.Credentials) (*bitbucket.Client, error) {
		settings := c.Bitbucket
		settings.Credentials = set
		settings.Logger = c.Logger.Named("bitbucket").With(zap.String("credentials", name))
		if budgets[name] == nil { // the store makes one client at a time
			budgets[name] = bitbucket.NewBudget(c.HourlyBudget, bitbucket.DefaultReserve, clock.RealClock{})
		}
		settings.Budget = budgets[name]
		settings.Observe = metrics.Call
		return bitbucket.NewClient(settings)
	})
	settings := fleet.Config{
		Owner: c.Owner,
		Client: func(name, namespace string) (fleet.Bitbucket, error) {
			client, err := store.Client(name, namespace)
			if err != nil {
				return nil, err // a nil *Client must not become a non-nil interface
			}
			return client, nil
		},
		Allow: func(key fleet.GroupKey, spec runnergroup.Group) error {
			return store.Allow(spec.Credentials, credentials.Use{
				Namespace: key.Namespace, Scope: bitbucket.Scope{Workspace: spec.Workspace, Repository: spec.Repository}, Labels: spec.Labels,
			})
		},
		PollInterval: c.PollInterval, MaxStaleness: c.MaxStaleness, WriteSettle: c.WriteSettle,
		StartLimit: c.StartLimit, LostAfter: c.LostAfter,
		Logger: c.Logger.Named("fleet"),
	}
	if c.Cluster != nil {
		settings.Kubernetes = c.Cluster
	}
	settings.Places = c.Places
	if c.Election != nil {
		settings.Tenure = c.Election
	}
	var err error
	if p.fleet, err = fleet.New(settings); err != nil {
		return nil, err
	}
	p.decisions = externalscaler.NewDecisions(p.fleet, clock.RealClock{}, c.Logger.Named("policy"))
	p.status = status.New(p.fleet, p.decisions, time.Now)
	registry := prometheus.NewRegistry()
	metrics = status.NewMetrics(registry, p.status, store.Clients)
	registry.MustRegister(append(c.Collectors, p.leader())...)
	p.grpc = externalscaler.NewServer(c.Logger.Named("grpc"), append(p.gate.Options(), c.ServerOptions...), p.services(metrics)...)
	p.http = &http.Server{
		Handler:           p.status.Handler(registry, p.ready.Load),
		ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, IdleTimeout: 2 * time.Minute,
	}
	return p, nil
}

// services are what the gRPC server serves; with a cluster, the registrar too,
// and the reaper beside it.
func (p *ControlPlane) services(metrics *status.Metrics) []externalscaler.Registrable {
	c := p.config
	p.service = externalscaler.NewService(p.fleet, p.decisions, c.Cluster != nil)
	if c.Cluster == nil {
		return []externalscaler.Registrable{p.service}
	}
	r := registrar.New(registrar.Config{
		Fleet: p.fleet, Reviewer: c.Cluster, Pods: c.Cluster, WriteSettle: c.WriteSettle,
		Count: metrics.Registration, Logger: c.Logger.Named("registrar"),
	})
	p.reaper = reaper.New(reaper.Config{
		Fleet: p.fleet, Decider: p.decisions, Sidecars: r, Pods: c.Cluster, Jobs: c.Cluster, Events: c.Cluster, Settle: c.StepSettle,
		LostAfter: c.LostAfter, LostSight: c.LostSight, StartLimit: c.StartLimit, DetachedLimit: c.DetachedLimit,
		Interval: c.ReaperInterval, OrphanGrace: c.OrphanGrace, DryRun: c.DryRun, UnsafeScaleDown: c.UnsafeScaleDown,
		Count: metrics.Removal, Logger: c.Logger.Named("reaper"),
	})
	return []externalscaler.Registrable{p.service, r.Service()}
}

// Changed says that the cluster is no longer as it was.
func (p *ControlPlane) Changed() { p.fleet.Changed() }

// Status is what an operator sees.
func (p *ControlPlane) Status() *status.Status { return p.status }

// leader tells who leads.
func (p *ControlPlane) leader() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bitbucket_runner_scaler_leader", Help: "1 while this process leads, 0 while it is a standby.",
	}, func() float64 {
		if p.Leading() {
			return 1
		}
		return 0
	})
}

// Run serves on both listeners until ctx ends, and closes them. The cluster's
// caches must hold their first lists already: then it is ready, leader or not.
func (p *ControlPlane) Run(ctx context.Context, grpcListener, httpListener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	// The servers outlive ctx until leading has ended in order.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if p.config.Election == nil {
		p.gate.Open(p.holds) // before the first call, which nobody else would answer
	}
	group.Go(func() error { return p.serveHTTP(serving, httpListener) })
	group.Go(func() error { return p.grpc.Serve(serving, p.gate.Listener(grpcListener)) })
	group.Go(func() error {
		defer stop()
		return p.compete(ctx)
	})
	p.ready.Store(true)
	p.log.Info("serving", zap.String("version", p.config.Version), zap.Stringer("grpc", grpcListener.Addr()),
		zap.Stringer("http", httpListener.Addr()), zap.String("owner", p.config.Owner))
	return group.Wait()
}

func (p *ControlPlane) serveHTTP(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- p.http.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpShutdown)
	defer cancel()
	err := p.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = p.http.Close() // who still reads is cut
	}
	if err != nil {
		return fmt.Errorf("stop http: %w", err)
	}
	return nil
}
