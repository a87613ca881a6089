package controlplane

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/status/history"
	"bitbucket-runner-scaler/externalscaler/status/page"
	"bitbucket-runner-scaler/externalscaler/status/view"
	"bitbucket-runner-scaler/externalscaler/status/web"
)

// newViewer makes what the API and the page show.
func (p *ControlPlane) newViewer(store *credentials.Store) *view.Viewer {
	c := p.config
	settings := view.Config{
		Version: c.Version, Owner: c.Owner, Leads: p.gate.Leads, Leader: c.leaderName, Certificates: c.Certificates,
		Fleet: p.fleet, Decisions: p.decisions, Crashes: p.crashes, Queue: p.queue, Scopes: p.scopes.Views,
		Credentials: func() []api.Credentials { return p.credentialsInUse(store) },
		LastCall:    p.service.LastCall,
		Polling:     func(fleet.GroupKey) time.Duration { return 0 },
		Webhooks:    c.Webhooks != nil, Now: time.Now,
	}
	if c.Cluster != nil {
		settings.Polling = p.polling
	}
	return view.New(settings)
}

// polling is how often KEDA should ask for a group; 0 if that is not known.
func (p *ControlPlane) polling(key fleet.GroupKey) time.Duration {
	for _, s := range p.config.Cluster.ScaledJobs() {
		if s.GroupKey == key {
			return s.PollingInterval
		}
	}
	return 0
}

// credentialsInUse are the credentials sets with their allowance, in the order of their names.
func (p *ControlPlane) credentialsInUse(store *credentials.Store) []api.Credentials {
	var deliveries map[string]time.Time
	if p.webhooks != nil {
		deliveries = p.webhooks.Last()
	}
	clients := store.Clients()
	sets := make([]api.Credentials, 0, len(clients))
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		budget := clients[name].Budget()
		set := api.Credentials{Name: name, Remaining: budget.Remaining(), Limit: budget.Limit(), Stretch: budget.Stretch()}
		if at := deliveries[name]; !at.IsZero() {
			set.LastDelivery = &at
		}
		sets = append(sets, set)
	}
	return sets
}

// newHTTP makes the server of /status, /metrics, the API and the page.
func (p *ControlPlane) newHTTP(routes *http.ServeMux) *http.Server {
	web.Register(routes, web.Config{Viewer: p.viewer, History: p.history, Changed: p.fleet.Wait})
	if p.config.NoPage {
		routes.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("bitbucket-runner-scaler: /api/v1 /status /metrics /healthz /readyz\n"))
		})
	} else {
		page.Register(routes, page.Config{Viewer: p.viewer, History: p.history, Changed: p.fleet.Wait, Now: time.Now})
	}
	streams, end := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:           routes,
		BaseContext:       func(net.Listener) context.Context { return streams },
		ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, IdleTimeout: 2 * time.Minute,
	}
	server.RegisterOnShutdown(end) // the streams, which would not end by themselves
	return server
}

// keepHistory takes samples of the groups until ctx ends.
func (p *ControlPlane) keepHistory(ctx context.Context) {
	p.history.Run(ctx, func() []api.Group { return p.viewer.Take().Groups })
}

func newHistory() *history.History { return history.New(clock.RealClock{}) }
