package controlplane

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/leader"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/registrar"
	"bitbucket-runner-scaler/externalscaler/scope"
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
	// Cluster is nil if KEDA's calls are answered without Kubernetes; then no runner
	// is ever registered or removed.
	Cluster Cluster
	// Bitbucket is the client's configuration, without credentials.
	Bitbucket bitbucket.Config
	// HourlyBudget is how many calls per hour a credentials set may make.
	HourlyBudget int
	// CredentialsDir and Lookup are where credentials sets come from.
	CredentialsDir string
	Lookup         func(string) (string, bool)
	// The times are those of fleet.Config, scope.Config and reaper.Config; those that
	// are zero have the defaults that are given there.
	PollInterval, MaxStaleness, WriteSettle, ReaperInterval                       time.Duration
	OrphanGrace, StepAssignDelay, LostSight, LostAfter, StartLimit, DetachedLimit time.Duration

	DryRun, UnsafeScaleDown bool
	// Scopes stores across restarts in which scopes our runners may be registered;
	// nil if that need not be.
	Scopes scope.Store
	// Election decides which of several replicas leads. Default leader.Alone.
	Election leader.Election
	// LeaderService leads KEDA and the sidecars to the leader; nil if nothing need be
	// done for that.
	LeaderService leader.LeaderService
	// PollRestarter makes KEDA read a ScaledJob again; nil if that is never needed.
	PollRestarter PollRestarter
	// WhileLeading runs beside the rest while this process leads, and ends with its
	// context; nil for nothing.
	WhileLeading func(context.Context) error
	// Collectors are further metrics.
	Collectors []prometheus.Collector
	// ServerOptions are the gRPC server's, such as transport credentials.
	ServerOptions []grpc.ServerOption
	Logger        *zap.Logger
}

func (c Config) scopes(client func(name, namespace string) (scope.Bitbucket, error)) scope.Config {
	return scope.Config{
		Owner: c.Owner, Client: client, Leadership: c.Election, Store: c.Scopes, KeepRegistered: c.Cluster != nil,
		PollInterval: c.PollInterval, WriteSettle: c.WriteSettle, Logger: c.Logger.Named("scope"),
	}
}

func (c Config) limits() reaper.Limits {
	return reaper.Limits{
		OrphanGrace: c.OrphanGrace, LostAfter: c.LostAfter, StepAssignDelay: c.StepAssignDelay,
		LostSight: c.LostSight, StartLimit: c.StartLimit, DetachedLimit: c.DetachedLimit,
	}
}
