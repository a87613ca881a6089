package controlplane

import (
	"context"
	"net"
	"strings"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/leader"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/registrar"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// Cluster is everything that the control plane needs from Kubernetes.
type Cluster interface {
	fleet.Kubernetes
	registrar.TokenReviewer
	reaper.Pods
	reaper.Jobs
	reaper.Events
}

// Config configures a ControlPlane.
type Config struct {
	// Version is the version of the build. It is logged.
	Version string
	// Owner is the label of this installation's runners.
	Owner string
	// Cluster is nil if the control plane runs without Kubernetes. In that case it
	// answers KEDA's calls, but never registers or removes a runner.
	Cluster Cluster
	// Bitbucket is the configuration of the clients, without credentials.
	Bitbucket bitbucket.Config
	// HourlyBudget is how many calls per hour a credentials set may make.
	HourlyBudget int
	// CredentialsDir and Lookup are where credentials sets come from.
	CredentialsDir string
	Lookup         func(string) (string, bool)
	// The times are those of fleet.Config, scope.Config and reaper.Limits. A zero value
	// means the default given there.
	PollInterval, MaxStaleness, WriteSettle, ReaperInterval                                  time.Duration
	OrphanGrace, StepAssignDelay, LostSight, LostAfter, StartLimit, DetachedLimit, GoneAfter time.Duration

	DryRun, UnsafeScaleDown bool
	// Scopes stores, across restarts, the scopes in which our runners may be registered.
	// It is nil if they are not stored.
	Scopes scope.Store
	// Usage stores, across restarts, how many calls were made in the last hour. It is nil
	// if that is not stored.
	Usage UsageStore
	// Podless keeps since when runners have been without a pod, for the next leader. It may
	// be nil.
	Podless reaper.Store
	// Election decides which of several replicas leads. Default leader.Alone.
	Election leader.Election
	// NoPage leaves out the page at /.
	NoPage bool
	// LeaderName names the replica that leads, as far as it is known; nil if there is only one.
	LeaderName func() string
	// Certificates are those that are served or published. It may be nil.
	Certificates func() []api.Certificate
	// LeaderService directs KEDA and the sidecars to the leader. It is nil if there is
	// only one replica.
	LeaderService leader.LeaderService
	// PollRestarter makes KEDA read a ScaledJob again. It is nil if that is never needed.
	PollRestarter PollRestarter
	// WhileLeading runs while this process leads and ends with its context. It may be
	// nil.
	WhileLeading func(context.Context) error
	// WatchWarnings finds out why Jobs have no running pod, while this process leads. It
	// may be nil.
	WatchWarnings func(context.Context) error
	// Webhooks accepts the deliveries of Bitbucket's webhooks, with TLS if they need it. Run
	// closes it. It is nil if there are none.
	Webhooks net.Listener
	// Traces gets the traces of the runners and of KEDA's calls. It is nil if there are none.
	// Its maker ends it after Run has returned.
	Traces oteltrace.TracerProvider
	// ServerOptions are options of the gRPC server, such as transport credentials.
	ServerOptions []grpc.ServerOption
	Logger        *zap.Logger
}

func (c Config) scopes(client func(name, namespace string) (scope.Bitbucket, error), pacer func(credentials string) scope.Pacer) scope.Config {
	return scope.Config{
		Owner: c.Owner, Client: client, Leadership: c.Election, Store: c.Scopes, KeepRegistered: c.Cluster != nil,
		PollInterval: c.PollInterval, WriteSettle: c.WriteSettle, GoneAfter: c.GoneAfter, Pacer: pacer,
		Logger: c.Logger.Named("scope"),
	}
}

// certificateExpiry returns what says when the served certificate expires; nil if none is served.
func (c Config) certificateExpiry() func() time.Time {
	if c.Certificates == nil {
		return nil
	}
	return func() time.Time {
		for _, certificate := range c.Certificates() {
			if certificate.Use == api.UseServer {
				return certificate.NotAfter
			}
		}
		return time.Time{}
	}
}

// leaderName is the pod that leads: a Lease's identity has a suffix that tells its processes apart.
func (c Config) leaderName() string {
	if c.LeaderName == nil {
		return ""
	}
	pod, _, _ := strings.Cut(c.LeaderName(), "_")
	return pod
}

func (c Config) limits() reaper.Limits {
	return reaper.Limits{
		OrphanGrace: c.OrphanGrace, LostAfter: c.LostAfter, StepAssignDelay: c.StepAssignDelay,
		LostSight: c.LostSight, StartLimit: c.StartLimit, DetachedLimit: c.DetachedLimit,
	}
}
