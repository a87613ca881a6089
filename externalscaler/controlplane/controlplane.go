// Package controlplane wires the parts of the control plane into one process: scopes,
// fleet, rules, the service that KEDA calls, registrar, reaper, and the status for
// operators. It takes the cluster as an interface, so that the scaler can use client-go
// and the test bed can use memory. It links neither.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/leader"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/registrar"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status"
	"bitbucket-runner-scaler/externalscaler/status/history"
	"bitbucket-runner-scaler/externalscaler/status/metrics"
	"bitbucket-runner-scaler/externalscaler/status/trace"
	"bitbucket-runner-scaler/externalscaler/status/view"
	"bitbucket-runner-scaler/externalscaler/webhook"
)

// The limits of the HTTP server.
const (
	httpTimeout  = 10 * time.Second
	httpShutdown = 3 * time.Second
)

// ControlPlane is a wired control plane.
type ControlPlane struct {
	config        Config
	log           *zap.Logger
	budgets       *budgets
	scopes        *scope.Set
	queue         *queue.Queue
	fleet         *fleet.Fleet
	decisions     *externalscaler.Decisions
	service       *externalscaler.Service
	crashes       *crashloop.Loops
	status        *status.Status
	viewer        *view.Viewer
	history       *history.History
	metrics       *metrics.Metrics
	tracer        *trace.Tracer  // nil without traces
	sidecars      func() int     // counts the attached ones
	reaper        *reaper.Reaper // nil without a cluster
	gate          leader.Gate
	grpc          *externalscaler.Server
	http          *http.Server
	ready         atomic.Bool
	webhooks      *webhook.Handler // nil without a listener
	webhookServer *http.Server
}

// New wires a ControlPlane. Run starts it.
func New(c Config) (*ControlPlane, error) {
	if c.Election == nil {
		c.Election = leader.Alone{}
	}
	p := &ControlPlane{
		config: c, log: c.Logger, budgets: newBudgets(c.HourlyBudget, c.Usage, c.Logger.Named("bitbucket")),
		metrics: metrics.New(registrar.Outcomes(), reaper.Removals()), sidecars: func() int { return 0 },
	}
	store := p.credentials()
	var err error
	if p.scopes, err = scope.NewSet(c.scopes(func(name, namespace string) (scope.Bitbucket, error) {
		client, err := store.Client(name, namespace)
		if err != nil {
			return nil, err // a nil *Client must not become a non-nil interface
		}
		return client, nil
	}, p.budgets.pacer)); err != nil {
		return nil, err
	}
	if p.queue, err = p.newQueue(store); err != nil {
		return nil, err
	}
	if p.fleet, err = p.newFleet(store); err != nil {
		return nil, err
	}
	p.scopes.OnChange(p.fleet.Changed)
	p.queue.OnChange(p.fleet.Changed)
	p.crashes = crashloop.New(clock.RealClock{})
	p.decisions = externalscaler.NewDecisions(p.fleet, p.crashes, clock.RealClock{}, c.Logger.Named("policy"))
	p.status = status.New(p.fleet, p.decisions, p.crashes, time.Now)
	registry := prometheus.NewRegistry()
	p.newWebhooks(store, registry)
	p.tracer = p.newTracer()
	options := slices.Concat(p.metrics.ServerOptions(), p.traceOptions(), p.gate.Options(), c.ServerOptions)
	p.grpc = externalscaler.NewServer(c.Logger.Named("grpc"), options, p.services()...)
	p.metrics.Serves(p.grpc)
	p.metrics.Register(registry, p.sources(store))
	p.viewer, p.history = p.newViewer(store), newHistory()
	p.http = p.newHTTP(p.status.Handler(registry, p.ready.Load))
	return p, nil
}

// credentials returns the credentials sets, each with one client and one budget.
func (p *ControlPlane) credentials() *credentials.Store {
	c := p.config
	return credentials.NewStore(c.CredentialsDir, c.Lookup, func(name string, set bitbucket.Credentials) (*bitbucket.Client, error) {
		settings := c.Bitbucket
		settings.Credentials = set
		settings.Logger = c.Logger.Named("bitbucket").With(zap.String("credentials", name))
		settings.Budget = p.budgets.of(name)
		settings.Observe = func(method, route string, status int, took time.Duration) {
			p.metrics.Call(name, method, route, status, took)
		}
		return bitbucket.NewClient(settings)
	})
}

func (p *ControlPlane) newQueue(store *credentials.Store) (*queue.Queue, error) {
	return queue.New(queue.Config{
		Client: func(name, namespace string) (queue.Bitbucket, error) {
			client, err := store.Client(name, namespace)
			if err != nil {
				return nil, err
			}
			return client, nil
		},
		Pacer:  func(credentials string) queue.Pacer { return p.budgets.of(credentials) },
		Waited: p.metrics.Waited,
	})
}

func (p *ControlPlane) newFleet(store *credentials.Store) (*fleet.Fleet, error) {
	c := p.config
	allow := func(set string, use credentials.Use) error {
		if err := store.Allow(set, use); err != nil {
			return err
		}
		_, err := store.Client(set, use.Namespace)
		return err
	}
	settings := fleet.Config{
		Owner: c.Owner, Scopes: p.scopes, Queue: p.queue,
		Admit: func(key fleet.GroupKey, spec runnergroup.Group) error {
			return allow(spec.Credentials, credentials.Use{
				Namespace: key.Namespace, Scope: bitbucket.Scope{Workspace: spec.Workspace, Repository: spec.Repository}, Labels: spec.Labels,
			})
		},
		MayPoll: func(namespace string, id scope.ID) error {
			return allow(id.Credentials, credentials.Use{Namespace: namespace, Scope: id.Scope})
		},
		MaxStaleness: c.MaxStaleness, StartLimit: c.StartLimit, LostAfter: c.LostAfter, Measures: p.metrics,
		Logger: c.Logger.Named("fleet"),
	}
	if c.Cluster != nil {
		settings.Kubernetes = c.Cluster
	}
	return fleet.New(settings)
}

// services returns the services of the gRPC server. With a cluster they include the
// registrar, and services also makes the reaper. Only these two can write to the scopes.
func (p *ControlPlane) services() []externalscaler.Registrable {
	c := p.config
	p.service = externalscaler.NewService(p.fleet, p.decisions, c.Cluster != nil)
	if c.Cluster == nil {
		return []externalscaler.Registrable{p.service}
	}
	r := registrar.New(registrar.Config{
		Owner: c.Owner, Snapshots: p.fleet, Telemetry: p.fleet, Writer: p.scopes, Runners: p.scopes,
		Reviewer: c.Cluster, Pods: c.Cluster, CrashLoops: p.crashes, Count: p.metrics.Registration, Measures: p.metrics, Logger: c.Logger.Named("registrar"),
	})
	p.sidecars = r.Sidecars
	p.reaper = reaper.New(reaper.Config{
		Snapshots: p.fleet, Marks: p.fleet, Decider: p.decisions, Writer: p.scopes, Runners: p.scopes, Sidecars: r,
		Pods: c.Cluster, Jobs: c.Cluster, Events: c.Cluster, CrashLoops: p.crashes, Store: c.Podless, Limits: c.limits(),
		Interval: c.ReaperInterval, DryRun: c.DryRun, UnsafeScaleDown: c.UnsafeScaleDown,
		Count: p.metrics.Removal, Logger: c.Logger.Named("reaper"),
	})
	return []externalscaler.Registrable{p.service, r.Service()}
}

// sources are what the metrics read at each scrape.
func (p *ControlPlane) sources(store *credentials.Store) metrics.Sources {
	return metrics.Sources{
		Version: p.config.Version, Leads: p.gate.Leads, Fleet: p.fleet, Decisions: p.decisions, CrashLoops: p.crashes, Scopes: p.scopes, Queue: p.queue,
		Budgets: func() map[string]metrics.Budget {
			budgets := map[string]metrics.Budget{}
			for name := range store.Clients() {
				budgets[name] = p.budgets.of(name)
			}
			return budgets
		},
		Sidecars: p.sidecars, CertificateExpiry: p.config.certificateExpiry(), Now: time.Now,
	}
}

// Changed reports to the fleet that the cluster has changed.
func (p *ControlPlane) Changed() { p.fleet.Changed() }

// Status returns the status for operators.
func (p *ControlPlane) Status() *status.Status { return p.status }

// Viewer shows what the API and the page show.
func (p *ControlPlane) Viewer() *view.Viewer { return p.viewer }

// Run serves on both listeners until ctx ends, and closes them. The cluster's caches must
// have their first lists before. The process is ready at once, whether or not it leads.
func (p *ControlPlane) Run(ctx context.Context, grpcListener, httpListener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	// The servers outlive ctx until all work under the lead has ended.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if _, alone := p.config.Election.(leader.Alone); alone {
		p.gate.Open(p.leads) // before the first call, because no other replica answers it
	}
	group.Go(func() error { return serveHTTP(serving, p.http, httpListener) })
	group.Go(func() error { return p.serveWebhooks(serving) })
	group.Go(func() error { return p.grpc.Serve(serving, p.gate.Listener(grpcListener)) })
	group.Go(func() error {
		defer stop()
		return p.config.Election.Run(ctx, p.lead)
	})
	p.ready.Store(true)
	p.log.Info("serving", zap.String("version", p.config.Version), zap.Stringer("grpc", grpcListener.Addr()),
		zap.Stringer("http", httpListener.Addr()), zap.String("owner", p.config.Owner))
	return group.Wait()
}

func serveHTTP(ctx context.Context, server *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpShutdown)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // disconnects clients that still read
	}
	if err != nil {
		return fmt.Errorf("stop http: %w", err)
	}
	return nil
}
