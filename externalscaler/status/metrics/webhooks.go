package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Webhooks are the metrics of the deliveries of webhooks.
type Webhooks struct {
	deliveries *prometheus.CounterVec
	took       prometheus.Observer
	// last returns the time of the last good delivery of each credentials set.
	last func() map[string]time.Time
}

// NewWebhooks registers the metrics, with a counter for each event and outcome.
func NewWebhooks(registry *prometheus.Registry, events, outcomes []string, last func() map[string]time.Time) *Webhooks {
	took := deliveryTook.newHistograms()
	m := &Webhooks{deliveries: deliveries.newCounters(), took: took.WithLabelValues(), last: last}
	for _, event := range events {
		for _, outcome := range outcomes {
			m.deliveries.WithLabelValues(event, outcome)
		}
	}
	registry.MustRegister(m.deliveries, took, m)
	return m
}

// Delivery counts a delivery.
func (m *Webhooks) Delivery(event, outcome string, took time.Duration) {
	m.deliveries.WithLabelValues(event, outcome).Inc()
	m.took.Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (m *Webhooks) Describe(ch chan<- *prometheus.Desc) { ch <- lastDelivery.desc }

// Collect implements prometheus.Collector.
func (m *Webhooks) Collect(ch chan<- prometheus.Metric) {
	for name, at := range m.last() {
		sender{ch}.timestamp(lastDelivery, at, name)
	}
}
