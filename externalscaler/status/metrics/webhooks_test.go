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
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			key := family.GetName()
			for _, label := range metric.GetLabel() {
				key += " " + label.GetValue()
			}
			got[key] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	for key, want := range map[string]float64{
		"webhook_deliveries_total repo:push accepted":   1,
		"webhook_deliveries_total other forged":         0,
		"webhook_delivery_duration_seconds":             1,
		"webhook_last_delivery_timestamp_seconds team":  1_800_000_000.5,
		"webhook_last_delivery_timestamp_seconds quiet": 0,
	} {
		if value, ok := got["bitbucket_runner_scaler_"+key]; !ok || value != want {
			t.Errorf("%s: got %v, %v, want %v", key, value, ok, want)
		}
	}
}
