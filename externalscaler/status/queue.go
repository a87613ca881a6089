package status

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// Queue is what waits for the runners of a group.
type Queue struct {
	// Queued are the steps that wait, and Predicted those that will within the group's
	// look-ahead, less the runners that are free by then.
	Queued    int `json:"queued"`
	Predicted int `json:"predicted"`
	// Unknown says why not all of it can be seen.
	Unknown string `json:"unknown,omitempty"`
	// Steps are the steps, the first ones of many.
	Steps []Step `json:"steps,omitempty"`
}

// Step is a step that waits for a runner, or soon will.
type Step struct {
	Repository string   `json:"repository"`
	Build      int      `json:"build"`
	Name       string   `json:"name"`
	UUID       string   `json:"uuid"`
	Labels     []string `json:"labels"`
	// Since is when it was found to wait. Expected is when it will, for a predicted one.
	Since    *time.Time `json:"waitsSince,omitempty"`
	Expected *time.Time `json:"expectedOn,omitempty"`
}

// mostSteps bounds the steps that are shown of one group.
const mostSteps = 100

func queueOf(g *fleet.GroupSnapshot) *Queue {
	o := g.Observation
	shown := &Queue{Queued: o.Queued, Predicted: o.Predicted, Unknown: o.QueueUnknown}
	for _, step := range g.Waiting[:min(len(g.Waiting), mostSteps)] {
		shown.Steps = append(shown.Steps, stepOf(step))
	}
	return shown
}

func stepOf(step queue.Step) Step {
	shown := Step{Repository: step.In, Build: step.Build, Name: step.Name, UUID: step.Step, Labels: step.Labels}
	if !step.Since.IsZero() {
		shown.Since = &step.Since
	}
	if !step.Expected.IsZero() {
		shown.Expected = &step.Expected
	}
	return shown
}

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
	status *Status
	counts func() queue.Counts
}

// NewQueueMetrics registers the metrics of the queue.
func NewQueueMetrics(registry *prometheus.Registry, s *Status, counts func() queue.Counts) {
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
	metric(unservedDesc, prometheus.GaugeValue, float64(len(m.status.fleet.Unserved())))
	counts := m.counts()
	metric(hintsDesc, prometheus.CounterValue, float64(counts.Hints), "taken")
	metric(hintsDesc, prometheus.CounterValue, float64(counts.Dropped), "dropped")
	metric(predictDesc, prometheus.CounterValue, float64(counts.Predicted-counts.Contradicted), "not_contradicted")
	metric(predictDesc, prometheus.CounterValue, float64(counts.Contradicted), "contradicted")
}
