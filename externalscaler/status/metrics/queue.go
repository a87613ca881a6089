package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/status"
)

var (
	queuedDesc   = prometheus.NewDesc(namespace+"_queued_steps", "Steps that wait for a runner of a group that scales by the queue.", []string{"namespace", "scaledjob"}, nil)
	expectedDesc = prometheus.NewDesc(namespace+"_predicted_steps", "Steps that will wait within a group's look-ahead, less the runners that are free by then.", []string{"namespace", "scaledjob"}, nil)
	unknownDesc  = prometheus.NewDesc(namespace+"_queue_unknown", "1 while not all of a group's queue can be seen.", []string{"namespace", "scaledjob"}, nil)
	unservedDesc = prometheus.NewDesc(namespace+"_unserved_steps", "Steps that ask for a runner, and that no known runner serves.", nil, nil)
	hintsDesc    = prometheus.NewDesc(namespace+"_hints_total", "Hints of webhooks, by outcome.", []string{"outcome"}, nil)
	predictDesc  = prometheus.NewDesc(namespace+"_predictions_total", "Steps that counted as waiting from a runner's report, by outcome. A contradicted one was dropped at the next read.", []string{"outcome"}, nil)
)

// queueMetrics reads the queue at each scrape.
type queueMetrics struct {
	status *status.Status
	counts func() queue.Counts
}

// NewQueue registers the metrics of the queue.
func NewQueue(registry *prometheus.Registry, s *status.Status, counts func() queue.Counts) {
	registry.MustRegister(queueMetrics{status: s, counts: counts})
}

// Describe implements prometheus.Collector.
func (queueMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{queuedDesc, expectedDesc, unknownDesc, unservedDesc, hintsDesc, predictDesc} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (m queueMetrics) Collect(ch chan<- prometheus.Metric) {
	metric := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	for _, group := range m.status.Groups() {
		if group.Queue == nil {
			continue
		}
		unknown := 0.0
		if group.Queue.Unknown != "" {
			unknown = 1
		}
		metric(queuedDesc, prometheus.GaugeValue, float64(group.Queue.Queued), group.Namespace, group.Name)
		metric(expectedDesc, prometheus.GaugeValue, float64(group.Queue.Predicted), group.Namespace, group.Name)
		metric(unknownDesc, prometheus.GaugeValue, unknown, group.Namespace, group.Name)
	}
	metric(unservedDesc, prometheus.GaugeValue, float64(len(m.status.Unserved())))
	counts := m.counts()
	metric(hintsDesc, prometheus.CounterValue, float64(counts.Hints), "taken")
	metric(hintsDesc, prometheus.CounterValue, float64(counts.Dropped), "dropped")
	metric(predictDesc, prometheus.CounterValue, float64(counts.Predicted-counts.Contradicted), "not_contradicted")
	metric(predictDesc, prometheus.CounterValue, float64(counts.Contradicted), "contradicted")
}
