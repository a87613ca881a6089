package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// syncTimeout bounds the wait for the first lists of Jobs, pods and ScaledJobs.
const syncTimeout = time.Minute

// serve connects to the cluster, unless --kubernetes is off, and serves until ctx ends.
func serve(ctx context.Context, c config, log *zap.Logger) error {
	var roots []byte
	if c.caBundle != "" {
		var err error
		if roots, err = os.ReadFile(c.caBundle); err != nil {
			return fmt.Errorf("--ca-bundle: %w", err)
		}
	}
	settings := controlplane.Config{
		Version: version, Owner: scope.OwnerLabel(c.cluster, "", "", c.service),
		Bitbucket:    bitbucket.Config{BaseURL: c.bitbucketURL, OAuthURL: c.bitbucketOAuth, CABundle: roots},
		HourlyBudget: c.hourlyBudget, CredentialsDir: c.credentialsDir, Lookup: c.lookup,
		PollInterval: c.pollInterval, MaxStaleness: c.maxStaleness, WriteSettle: c.writeSettle, OrphanGrace: c.orphanGrace,
		NoPage: !c.page, DryRun: c.dryRun, UnsafeScaleDown: c.unsafeScaleDown, Logger: log,
	}
	endProfiles, err := serveProfiles(ctx, c, log)
	if err != nil {
		return err
	}
	defer endProfiles()
	endTraces, err := sendTraces(ctx, c, &settings)
	if err != nil {
		return err
	}
	defer endTraces()
	webhooks, endWebhooks, err := listenForWebhooks(ctx, c)
	if err != nil {
		return err
	}
	defer endWebhooks()
	settings.Webhooks = webhooks
	if c.kubernetes == "off" {
		end, err := secure(ctx, c, nil, &settings)
		if err != nil {
			return err
		}
		defer end()
		plane, err := controlplane.New(settings)
		if err != nil {
			return err
		}
		return listenAndRun(ctx, c, plane)
	}
	return serveCluster(ctx, c, settings)
}

// serveCluster serves with Kubernetes.
func serveCluster(ctx context.Context, c config, settings controlplane.Config) error {
	access, err := restConfig()
	if err != nil {
		return err
	}
	cluster, err := kube.New(access, kube.ServiceNames(c.service, c.namespace, c.scalerAddress))
	if err != nil {
		return err
	}
	defer cluster.Stop()
	// The watches continue after ctx has ended, until the last call is answered.
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel() // before cluster.Stop, which waits for the watches to end
	starting := context.AfterFunc(ctx, cancel)
	if err := cluster.Start(watching, syncTimeout); err != nil {
		return err
	}
	kept := cluster.ScopesIn(c.namespace, c.service)
	settings.Cluster, settings.Scopes, settings.Usage, settings.Podless = cluster, kept, kept, kept
	settings.WatchWarnings = func(ctx context.Context) error { return cluster.WatchWarnings(ctx, settings.Logger.Named("kube")) }
	if settings.Owner, err = owner(ctx, c, cluster); err != nil {
		return err
	}
	end, err := secure(watching, c, cluster, &settings)
	if err != nil {
		return err
	}
	defer end()
	if c.elects() {
		if err := elect(c, access, &settings); err != nil {
			return err
		}
	}
	plane, err := controlplane.New(settings)
	if err != nil {
		return err
	}
	cluster.OnChange(plane.Changed)
	starting()
	return listenAndRun(ctx, c, plane)
}

// elect configures the election of a leader, which the Service then selects.
func elect(c config, access *rest.Config, settings *controlplane.Config) error {
	client, err := kube.ElectionClient(access)
	if err != nil {
		return err
	}
	election := kube.NewElection(kube.LeaseLock(client, c.namespace, c.service, c.podName), kube.ElectionConfig{
		WriteSettle: c.writeSettle, Logger: settings.Logger.Named("election"),
	})
	settings.Election, settings.LeaderName = election, election.Leader
	settings.LeaderService = kube.NewLeaderService(client, c.namespace, c.podName)
	return nil
}

func listenAndRun(ctx context.Context, c config, plane *controlplane.ControlPlane) error {
	var listen net.ListenConfig
	grpcListener, err := listen.Listen(ctx, "tcp", c.grpcListen)
	if err != nil {
		return fmt.Errorf("--grpc-listen: %w", err)
	}
	httpListener, err := listen.Listen(ctx, "tcp", c.httpListen)
	if err != nil {
		return errors.Join(fmt.Errorf("--http-listen: %w", err), grpcListener.Close())
	}
	return plane.Run(ctx, grpcListener, httpListener)
}

func owner(ctx context.Context, c config, cluster *kube.Cluster) (string, error) {
	uid, err := cluster.KubeSystemUID(ctx)
	if err != nil {
		return "", err
	}
	return scope.OwnerLabel(c.cluster, uid, c.namespace, c.service), nil
}

// restConfig returns the pod's own configuration or, outside a cluster, that of
// KUBECONFIG.
func restConfig() (*rest.Config, error) {
	settings, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		settings, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("--kubernetes auto: no cluster configuration found, neither in a pod nor in KUBECONFIG: %w", err)
	}
	return settings, nil
}
