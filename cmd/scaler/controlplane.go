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
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/jobfactory/controlplane"
	"bitbucket-runner-scaler/jobfactory/kube"
)

// syncTimeout bounds the wait for the first lists of Jobs, pods and ScaledJobs.
const syncTimeout = time.Minute

// serve connects to the cluster, if there is to be one, and serves until ctx ends.
func serve(ctx context.Context, c config, log *zap.Logger) error {
	var roots []byte
	if c.caBundle != "" {
		var err error
		if roots, err = os.ReadFile(c.caBundle); err != nil {
			return fmt.Errorf("--ca-bundle: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	settings := controlplane.Config{
		Version: version, Owner: fleet.OwnerLabel(c.cluster, "", ""),
		Bitbucket:    bitbucket.Config{BaseURL: c.bitbucketURL, OAuthURL: c.bitbucketOAuth, CABundle: roots},
		HourlyBudget: c.hourlyBudget, CredentialsDir: c.credentialsDir, Lookup: c.lookup,
		PollInterval: c.pollInterval, MaxStaleness: c.maxStaleness, WriteSettle: c.writeSettle, OrphanGrace: c.orphanGrace,
		DryRun: c.dryRun, UnsafeScaleDown: c.unsafeScaleDown, Logger: log,
	}
	var cluster *kube.Cluster
	if c.kubernetes != "off" {
		var err error
		if cluster, err = connect(ctx, c); err != nil {
			cancel()
			return err
		}
		defer cluster.Stop()
		settings.Cluster = cluster
		if settings.Owner, err = owner(ctx, c, cluster); err != nil {
			cancel()
			return err
		}
	}
	defer cancel() // before cluster.Stop, which waits for the watches to end
	plane, err := controlplane.New(settings)
	if err != nil {
		return err
	}
	if cluster != nil {
		cluster.OnChange(plane.Changed)
	}
	return listenAndRun(ctx, c, plane)
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

func connect(ctx context.Context, c config) (*kube.Cluster, error) {
	settings, err := restConfig()
	if err != nil {
		return nil, err
	}
	cluster, err := kube.New(settings, kube.ServiceNames(c.service, c.namespace, c.scalerAddress))
	if err != nil {
		return nil, err
	}
	return cluster, cluster.Start(ctx, syncTimeout)
}

func owner(ctx context.Context, c config, cluster *kube.Cluster) (string, error) {
	uid, err := cluster.KubeSystemUID(ctx)
	if err != nil {
		return "", err
	}
	return fleet.OwnerLabel(c.cluster, uid, c.namespace), nil
}

// restConfig is the pod's own, or that of KUBECONFIG outside a cluster.
func restConfig() (*rest.Config, error) {
	settings, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		settings, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("--kubernetes auto: no configuration of a cluster was found (in a pod, or KUBECONFIG): %w", err)
	}
	return settings, nil
}
