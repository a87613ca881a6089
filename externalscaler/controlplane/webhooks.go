package controlplane

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/status/metrics"
	"bitbucket-runner-scaler/externalscaler/webhook"
)

// The bounds of the server that takes deliveries: it is open to the internet.
const (
	webhookConnections = 1000
	webhookHeader      = 16 << 10 // bytes
	webhookIdle        = 30 * time.Second
)

// newWebhooks makes the handler and the server of the deliveries. They stay nil without a
// listener.
func (p *ControlPlane) newWebhooks(store *credentials.Store, registry *prometheus.Registry) {
	if p.config.Webhooks == nil {
		return
	}
	var deliveries *metrics.Webhooks
	p.webhooks = webhook.New(webhook.Config{
		Secrets: store, Hints: p.queue, Leads: p.gate.Leads,
		Observe: func(event, outcome string, took time.Duration) { deliveries.Delivery(event, outcome, took) },
		Logger:  p.log.Named("webhook"),
	})
	deliveries = metrics.NewWebhooks(registry, webhook.Events(), webhook.Outcomes(), p.webhooks.Last)
	routes := http.NewServeMux()
	routes.Handle(webhook.Path, p.webhooks)
	p.webhookServer = &http.Server{
		Handler: routes, MaxHeaderBytes: webhookHeader,
		ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: 2 * httpTimeout, IdleTimeout: webhookIdle,
	}
}

// serveWebhooks takes deliveries until ctx ends. Without a listener it does nothing.
func (p *ControlPlane) serveWebhooks(ctx context.Context) error {
	if p.webhooks == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var passing sync.WaitGroup
	passing.Go(func() { p.webhooks.Run(ctx) })
	defer passing.Wait()
	defer cancel()
	return serveHTTP(ctx, p.webhookServer, netutil.LimitListener(p.config.Webhooks, webhookConnections))
}
