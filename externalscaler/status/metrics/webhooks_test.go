package metrics_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bitbucket-runner-scaler/externalscaler/status/metrics"
)

func TestDeliveriesAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := metrics.NewWebhooks(registry, []string{"repo:push", "other"}, []string{"accepted", "forged"}, func() map[string]time.Time {
		return map[string]time.Time{"team": time.Unix(1_800_000_000, 5e8), "quiet": {}}
	})
	m.Delivery("repo:push", "accepted", 3*time.Millisecond)
	check(t, series(t, registry), map[string]float64{
		`webhook_deliveries_total{event="repo:push",outcome="accepted"}`: 1,
		`webhook_deliveries_total{event="other",outcome="forged"}`:       0,
		`webhook_delivery_duration_seconds`:                              1,
		`webhook_last_delivery_timestamp_seconds{credentials="team"}`:    1_800_000_000.5,
		`webhook_last_delivery_timestamp_seconds{credentials="quiet"}`:   0,
	})
}
