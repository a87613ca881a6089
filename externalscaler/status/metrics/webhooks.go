package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Webhooks are the metrics of the deliveries of webhooks.
type Webhooks struct {
	deliveries *prometheus.CounterVec
	took       prometheus.Histogram
	// last returns the time of the last good delivery of each credentials set.
	last func() map[string]time.Time
}

var lastDeliveryDesc = prometheus.NewDesc(namespace+"_webhook_last_delivery_timestamp_seconds",
	"When the last correctly signed webhook delivery of a credentials set arrived. 0 if there was none.", []string{"credentials"}, nil)

// NewWebhooks registers the metrics, with a counter for each event and outcome.
func NewWebhooks(registry *prometheus.Registry, events, outcomes []string, last func() map[string]time.Time) *Webhooks {
	m := &Webhooks{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "webhook_deliveries_total", Help: "Webhook deliveries by event and outcome.",
		}, []string{"event", "outcome"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "webhook_delivery_duration_seconds", Help: "Time until a webhook delivery was answered.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 10},
		}),
		last: last,
	}
	for _, event := range events {
		for _, outcome := range outcomes {
			m.deliveries.WithLabelValues(event, outcome)
		}
	}
	registry.MustRegister(m.deliveries, m.took, m)
	return m
}

// Delivery counts a delivery.
func (m *Webhooks) Delivery(event, outcome string, took time.Duration) {
	m.deliveries.WithLabelValues(event, outcome).Inc()
	m.took.Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (m *Webhooks) Describe(ch chan<- *prometheus.Desc) { ch <- lastDeliveryDesc }

// Collect implements prometheus.Collector.
func (m *Webhooks) Collect(ch chan<- prometheus.Metric) {
	for name, at := range m.last() {
		seconds := 0.0
		if !at.IsZero() {
			seconds = float64(at.UnixMilli()) / 1000
		}
		ch <- prometheus.MustNewConstMetric(lastDeliveryDesc, prometheus.GaugeValue, seconds, name)
	}
}
