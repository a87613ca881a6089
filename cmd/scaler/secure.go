package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"sync"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials/tls/certprovider"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/certificates"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// secure configures the gRPC server's certificate, and publishes the authority to trust
// in the namespaces of the runner groups. end stops the renewal of both. cluster is nil
// without Kubernetes.
func secure(ctx context.Context, c config, cluster *kube.Cluster, settings *controlplane.Config) (end func(), err error) {
	if c.tls == "off" {
		return func() {}, nil
	}
	log := settings.Logger.Named("certificates")
	var source certificates.Source
	if files, given := c.files(); given {
		own, err := certificates.NewFiles(ctx, files[0], files[1], files[2])
		if err != nil {
			return nil, fmt.Errorf("--tls: %w", err)
		}
		source, end = own, own.Close
	} else {
		authority := certificates.NewAuthority(cluster.CertificatesIn(c.namespace, c.service), c.serverNames(), clock.RealClock{}, log)
		if err := authority.Start(ctx); err != nil {
			return nil, fmt.Errorf("--tls auto: %w", err)
		}
		source, end = authority, renew(ctx, authority, log)
	}
	var clients certprovider.Provider
	if c.tlsClientCA != "" {
		if clients, err = certificates.NewClientAuthorities(c.tlsClientCA); err != nil {
			end()
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		endSource := end
		end = func() { endSource(); clients.Close() }
	}
	settings.ServerOptions = certificates.ServerOptions(source, clients)
	settings.Certificates = validity(source)
	if cluster != nil {
		settings.PollRestarter = cluster
		settings.WhileLeading = certificates.NewPublisher(source, cluster.AuthorityMaps(settings.Owner, clock.RealClock{}), c.publishedTo(cluster), clock.RealClock{}, log).Run
	}
	return end, nil
}

// renew renews an authority's certificates until end is called.
func renew(ctx context.Context, authority *certificates.Authority, log *zap.Logger) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		if err := authority.Run(ctx); err != nil {
			log.Error("certificates are no longer renewed", zap.Error(err))
		}
	})
	return func() { cancel(); looking.Wait() }
}

// publishedTo returns the namespaces that need the authority: those of the runner
// groups, and our own.
func (c config) publishedTo(cluster *kube.Cluster) func() []string {
	return func() []string {
		scaledJobs := cluster.ScaledJobs()
		namespaces := make([]string, 0, 1+len(scaledJobs))
		namespaces = append(namespaces, c.namespace)
		for _, scaledJob := range scaledJobs {
			namespaces = append(namespaces, scaledJob.Namespace)
		}
		slices.Sort(namespaces)
		return slices.Compact(namespaces)
	}
}

// serverNames returns all names by which KEDA and the sidecars may call the Service.
func (c config) serverNames() []string {
	base := c.service + "." + c.namespace
	names := []string{base + ".svc.cluster.local", base + ".svc", base, c.service, "localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(c.scalerAddress); err == nil {
		names = append(names, host)
	}
	return names
}

// validity returns until when the served certificate and the authorities that sign it are valid.
func validity(source certificates.Source) func() []api.Certificate {
	return func() []api.Certificate {
		var shown []api.Certificate
		if served, err := source.Certificate(context.Background()); err == nil && served.Leaf != nil {
			shown = append(shown, api.Certificate{Use: api.UseServer, NotAfter: served.Leaf.NotAfter.UTC()})
		}
		bundle, err := source.Bundle(context.Background())
		for err == nil {
			var block *pem.Block
			if block, bundle = pem.Decode(bundle); block == nil {
				break
			}
			authority, fault := x509.ParseCertificate(block.Bytes)
			if fault != nil {
				continue
			}
			shown = append(shown, api.Certificate{Use: api.UseAuthority, NotAfter: authority.NotAfter.UTC()})
		}
		return shown
	}
}
